// Normalise, max-pool 2×2 (K = 2; K = 1: no pooling), ReLU in one pass, with first and second derivative.
//
// Images are [n, h, w, c] in memory (channels-last), c a multiple of the numbers in 64 bytes. With
// x̂ = (x − μ) r, z the winner of each window of x (its largest where γ > 0, its smallest where γ < 0, the first where
// several are equal), y = max(0, γ ẑ + β). The derivatives are those of normalisation.py, with gy the gradient of y
// where y > 0, at the winner's place, and 0 elsewhere. `given`: μ and r are constants and not the batch's own.
//
// A sum goes over a block in T, then over the blocks of an image and the images in double, so that it does not depend on
// the number of threads. `scratch`: 3 (n + 3) c numbers.

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {

template <class T> struct Vector { typedef T type __attribute__((vector_size(WIDTH))); };

template <class T> INLINE typename Vector<T>::type load(const T* p) {
    typename Vector<T>::type v;
    __builtin_memcpy(&v, p, WIDTH);
    return v;
}
template <class T, class V> INLINE void store(T* p, V v) { __builtin_memcpy(p, &v, WIDTH); }

template <class T, class V> INLINE void add_to(double* sums, V v) {
    T lanes[WIDTH / sizeof(T)];
    store(lanes, v);
    for (unsigned j = 0; j < WIDTH / sizeof(T); j++) sums[j] += lanes[j];
}

struct Shape {
    long n, h, w, c;
    int threads;
};

// Mean and sum of squared deviations of `count` pixels, joined to those of the `before` pixels before them.
template <class T> void moments(const T* x, long count, long c, long before, double* mean, double* squares) {
    typedef typename Vector<T>::type V;
    const int L = WIDTH / sizeof(T);
    const double all = before + count, part = count / all, cross = before * part;
    for (long k = 0; k < c; k += L) {
        V s0 = {}, s1 = {}, s2 = {}, s3 = {};
        long p = 0;
        for (; p + 4 <= count; p += 4) {
            s0 += load(x + p * c + k), s1 += load(x + (p + 1) * c + k);
            s2 += load(x + (p + 2) * c + k), s3 += load(x + (p + 3) * c + k);
        }
        for (; p < count; p++) s0 += load(x + p * c + k);
        const V middle = ((s0 + s1) + (s2 + s3)) / (T)count;
        s0 = V{}, s1 = V{}, s2 = V{}, s3 = V{};
        for (p = 0; p + 4 <= count; p += 4) {
            const V a = load(x + p * c + k) - middle, b = load(x + (p + 1) * c + k) - middle;
            const V d = load(x + (p + 2) * c + k) - middle, e = load(x + (p + 3) * c + k) - middle;
            s0 += a * a, s1 += b * b, s2 += d * d, s3 += e * e;
        }
        for (; p < count; p++) {
            const V a = load(x + p * c + k) - middle;
            s0 += a * a;
        }
        T m[L], q[L];
        store(m, middle), store(q, (s0 + s1) + (s2 + s3));
        for (int j = 0; j < L; j++) {
            const double step = m[j] - mean[k + j];
            mean[k + j] += step * part;
            squares[k + j] += q[j] + step * step * cross;
        }
    }
}

// Calls f(first pixel, windows, first window, pixels) for each run of windows, then for each run of pixels in none.
template <int K, class F> INLINE void runs(long h, long w, F f) {
    if (K == 1) {
        for (long p = 0; p < h * w; p += 128) {
            const long count = h * w - p < 128 ? h * w - p : 128;
            f(p, count, p, count);
        }
        return;
    }
    const long ho = h / K, wo = w / K;
    for (long i = 0; i < ho; i++) f(K * i * w, wo, i * wo, K * w);
    if (h % K) f((h - 1) * w, 0, 0, w);
}

template <class T, int K>
void forward(const T* x, const T* gamma, const T* beta, const Shape s, int given, double eps, double* scratch, T* z,
             T* y, T* mean, T* r) {
    typedef typename Vector<T>::type V;
    const int L = WIDTH / sizeof(T);
    const long c = s.c, w = s.w, pixels = s.h * s.w, pooled = (s.h / K) * (s.w / K);
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++) {
        double *m = scratch + 2 * c * i, *q = m + c;
        for (long k = 0; k < 2 * c; k++) m[k] = 0;
        const T* xi = x + i * pixels * c;
        T* zi = z + i * pooled * c;
        runs<K>(s.h, w, [&](long p, long windows, long o, long count) {
            if (!given) moments(xi + p * c, count, c, p, m, q);
            if (K == 1) return;
            for (long j = 0; j < windows; j++)
                for (long k = 0; k < c; k += L) {
                    const T* at = xi + (p + K * j) * c + k;
                    V sign = V{} + (T)1;
                    if (gamma) {
                        const V g = load(gamma + k);
                        sign = g > 0 ? V{} + (T)1 : g < 0 ? V{} - (T)1 : V{};
                    }
                    V best = load(at), value = sign * best;
                    for (int e = 1; e < K * K; e++) {
                        const V next = load(at + ((e / K) * w + e % K) * c), v = sign * next;
                        const auto larger = (v > value) | (v != v);
                        best = larger ? next : best, value = larger ? v : value;
                    }
                    store(zi + (o + j) * c + k, best);
                }
        });
    }
    for (long k = 0; k < c && !given; k++) {
        double m = 0, q = 0;
        for (long i = 0; i < s.n; i++) m += scratch[2 * c * i + k];
        m /= s.n;
        for (long i = 0; i < s.n; i++) {
            const double step = scratch[2 * c * i + k] - m;
            q += scratch[2 * c * i + c + k] + step * step * pixels;
        }
        mean[k] = m, r[k] = 1 / __builtin_sqrt(q / (s.n * pixels) + eps);
    }
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++)
        for (long k = 0; k < c; k += L) {
            const V scale = gamma ? load(gamma + k) * load(r + k) : load(r + k), middle = load(mean + k);
            const V shift = beta ? load(beta + k) : V{};
            const T* zi = (K == 1 ? x : z) + i * pooled * c + k;
            T* yi = y + i * pooled * c + k;
            for (long p = 0; p < pooled; p++) {
                const V v = (load(zi + p * c) - middle) * scale + shift;
                store(yi + p * c, v <= 0 ? V{} : v);
            }
        }
}

// `sums` [2, c]: mean(gy) and mean(gy x̂), 0 for given statistics.
template <class T, int K>
void backward(const T* g, const T* x, const T* z, const T* y, const T* gamma, const T* mean, const T* r, const Shape s,
              int given, double* scratch, double* sums, T* gx, T* g_gamma, T* g_beta) {
    typedef typename Vector<T>::type V;
    const int L = WIDTH / sizeof(T);
    const long c = s.c, w = s.w, pixels = s.h * s.w, pooled = (s.h / K) * (s.w / K);
    const double count = s.n * pixels;
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++) {
        double* own = scratch + 2 * c * i;
        for (long k = 0; k < 2 * c; k++) own[k] = 0;
        for (long p0 = 0; p0 < pooled; p0 += 128)
            for (long k = 0; k < c; k += L) {
                const V middle = load(mean + k);
                V a = {}, b = {};
                for (long p = p0; p < pooled && p < p0 + 128; p++) {
                    const long at = (i * pooled + p) * c + k;
                    const V live = load(y + at) <= 0 ? V{} : load(g + at);
                    a += live, b += live * (load(z + at) - middle);
                }
                add_to<T>(own + k, a), add_to<T>(own + c + k, b);
            }
    }
    T* table = (T*)(scratch + 2 * c * s.n);  // [3, c]
    for (long k = 0; k < c; k++) {
        double a = 0, b = 0;
        for (long i = 0; i < s.n; i++) a += scratch[2 * c * i + k], b += scratch[2 * c * i + c + k];
        b *= r[k];
        g_beta[k] = a, g_gamma[k] = b;
        sums[k] = given ? 0 : a / count, sums[c + k] = given ? 0 : b / count;
        const double scale = (gamma ? (double)gamma[k] : 1.0) * r[k];
        table[k] = scale;
        table[c + k] = -scale * sums[k];
        table[2 * c + k] = -scale * sums[c + k] * r[k];
    }
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++) {
        const T* xi = x + i * pixels * c;
        T* out = gx + i * pixels * c;
        runs<K>(s.h, w, [&](long p, long windows, long o, long all) {
            for (long k = 0; k < c; k += L) {
                const V scale = load(table + k), shift = load(table + c + k);
                const V slope = load(table + 2 * c + k), middle = load(mean + k);
                for (long j = 0; j < windows; j++) {
                    const long at = (i * pooled + o + j) * c + k;
                    const V live = load(y + at) <= 0 ? V{} : load(g + at) * scale;
                    const V won = load(z + at);
                    auto free = won == won;
                    for (int e = 0; e < K * K; e++) {
                        const long px = (p + (e / K) * w + K * j + e % K) * c + k;
                        const V v = load(xi + px);
                        const auto here = (v == won) & free;
                        free &= ~here;
                        store(out + px, (here ? live : V{}) + (shift + slope * (v - middle)));
                    }
                }
                for (long q = 0; K > 1 && q < all; q++)  // pixels in no window
                    if (!windows || q % w >= K * windows) {
                        const long px = (p + q) * c + k;
                        store(out + px, shift + slope * (load(xi + px) - middle));
                    }
            }
        });
    }
}

// The derivative of `backward`'s gx, g_gamma, g_beta in the direction v, v_gamma, v_beta (the last two may be null).
template <class T, int K>
void second(const T* v, const T* v_gamma, const T* v_beta, const T* g, const T* x, const T* z, const T* y,
            const T* gamma, const T* mean, const T* r, const double* sums, const Shape s, int given, double* scratch,
            T* d_g, T* d_x, T* d_gamma) {
    typedef typename Vector<T>::type V;
    const int L = WIDTH / sizeof(T);
    const long c = s.c, w = s.w, pixels = s.h * s.w, pooled = (s.h / K) * (s.w / K);
    const double count = s.n * pixels;
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++) {
        double* own = scratch + 3 * c * i;
        for (long k = 0; k < 3 * c; k++) own[k] = 0;
        const T *xi = x + i * pixels * c, *vi = v + i * pixels * c;
        runs<K>(s.h, w, [&](long p, long windows, long o, long all) {
            for (long k = 0; k < c; k += L) {
                const V middle = load(mean + k);
                V of_v = {}, of_vx = {}, of_vg = {};
                for (long j = 0; j < windows; j++) {
                    const long at = (i * pooled + o + j) * c + k;
                    const V won = load(z + at), live = load(y + at) <= 0 ? V{} : load(g + at);
                    auto free = won == won;
                    for (int e = 0; e < K * K; e++) {
                        const long px = (p + (e / K) * w + K * j + e % K) * c + k;
                        const V a = load(xi + px), b = load(vi + px);
                        of_v += b, of_vx += b * (a - middle);
                        const auto here = (a == won) & free;
                        free &= ~here;
                        of_vg += here ? live * b : V{};
                    }
                }
                for (long q = 0; K > 1 && q < all; q++)
                    if (!windows || q % w >= K * windows) {
                        const V b = load(vi + (p + q) * c + k);
                        of_v += b, of_vx += b * (load(xi + (p + q) * c + k) - middle);
                    }
                add_to<T>(own + k, of_v), add_to<T>(own + c + k, of_vx), add_to<T>(own + 2 * c + k, of_vg);
            }
        });
    }
    T* table = (T*)(scratch + 3 * c * s.n);  // [7, c]
    for (long k = 0; k < c; k++) {
        double v_mean = 0, b = 0, vg = 0;
        for (long i = 0; i < s.n; i++) {
            const double* own = scratch + 3 * c * i;
            v_mean += own[k], b += own[c + k], vg += own[2 * c + k];
        }
        const double rk = r[k], scale = (gamma ? (double)gamma[k] : 1.0) * rk, g_mean = sums[k], a = sums[c + k];
        const double vk = v_gamma ? (double)v_gamma[k] : 0.0;
        v_mean = given ? 0 : v_mean / count, b = given ? 0 : b * rk / count, vg /= count;
        const double cov = vg - v_mean * g_mean, curve = given ? 0 : -rk * scale;
        const double of_gy = curve * b + vk * rk;
        table[k] = curve * a;
        table[c + k] = of_gy;
        table[2 * c + k] = (curve * (cov - 3 * a * b) - vk * rk * a) * rk;
        table[3 * c + k] = -curve * a * v_mean - of_gy * g_mean;
        table[4 * c + k] = scale;
        table[5 * c + k] = (vk - scale * b) * rk;
        table[6 * c + k] = (v_beta ? (double)v_beta[k] : 0.0) - scale * v_mean;
        d_gamma[k] = count * rk * (cov - a * b);
    }
#pragma omp parallel for num_threads(s.threads)
    for (long i = 0; i < s.n; i++) {
        const T *xi = x + i * pixels * c, *vi = v + i * pixels * c;
        T* out = d_x + i * pixels * c;
        runs<K>(s.h, w, [&](long p, long windows, long o, long all) {
            for (long k = 0; k < c; k += L) {
                const V middle = load(mean + k), by_v = load(table + k), by_g = load(table + c + k);
                const V by_x = load(table + 2 * c + k), shift = load(table + 3 * c + k);
                const V g_by_v = load(table + 4 * c + k), g_by_z = load(table + 5 * c + k), g_shift = load(table + 6 * c + k);
                for (long j = 0; j < windows; j++) {
                    const long at = (i * pooled + o + j) * c + k;
                    const V won = load(z + at);
                    const auto dead = load(y + at) <= 0;
                    const V live = dead ? V{} : load(g + at) * by_g;
                    auto free = won == won;
                    V at_winner = {};
                    for (int e = 0; e < K * K; e++) {
                        const long px = (p + (e / K) * w + K * j + e % K) * c + k;
                        const V a = load(xi + px), b = load(vi + px);
                        const auto here = (a == won) & free;
                        free &= ~here;
                        at_winner += here ? b : V{};
                        store(out + px, b * by_v + (here ? live : V{}) + by_x * (a - middle) + shift);
                    }
                    store(d_g + at, dead ? V{} : at_winner * g_by_v + g_by_z * (won - middle) + g_shift);
                }
                for (long q = 0; K > 1 && q < all; q++)
                    if (!windows || q % w >= K * windows) {
                        const long px = (p + q) * c + k;
                        store(out + px, load(vi + px) * by_v + by_x * (load(xi + px) - middle) + shift);
                    }
            }
        });
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) void

// For each of `tasks` batches, one behind the other in memory; each has a row of its own in what is found per channel,
// while γ, β, v_gamma and v_beta are those of all.
#define OF_TYPE(T, NAME)                                                                                              \
    EXPORT forward_##NAME(const T* x, const T* gamma, const T* beta, long tasks, long n, long h, long w, long c,     \
                          int pool, int given, int threads, double eps, double* scratch, T* z, T* y, T* mean, T* r) {\
        const long all = n * h * w * c, out = pool ? n * (h / 2) * (w / 2) * c : all;                                \
        for (long t = 0; t < tasks; t++)                                                                              \
            (pool ? forward<T, 2> : forward<T, 1>)(x + t * all, gamma, beta, {n, h, w, c, threads}, given, eps,      \
                                                   scratch, z + t * out, y + t * out, mean + t * c, r + t * c);      \
    }                                                                                                                 \
    EXPORT backward_##NAME(const T* g, const T* x, const T* z, const T* y, const T* gamma, const T* mean,            \
                           const T* r, long tasks, long n, long h, long w, long c, int pool, int given, int threads, \
                           double* scratch, double* sums, T* gx, T* g_gamma, T* g_beta) {                            \
        const long all = n * h * w * c, out = pool ? n * (h / 2) * (w / 2) * c : all;                                \
        for (long t = 0; t < tasks; t++)                                                                              \
            (pool ? backward<T, 2> : backward<T, 1>)(g + t * out, x + t * all, z + t * out, y + t * out, gamma,      \
                                                     mean + t * c, r + t * c, {n, h, w, c, threads}, given, scratch, \
                                                     sums + t * 2 * c, gx + t * all, g_gamma + t * c, g_beta + t * c);\
    }                                                                                                                 \
    EXPORT second_##NAME(const T* v, const T* v_gamma, const T* v_beta, const T* g, const T* x, const T* z,          \
                         const T* y, const T* gamma, const T* mean, const T* r, const double* sums, long tasks,      \
                         long n, long h, long w, long c, int pool, int given, int threads, double* scratch, T* d_g,  \
                         T* d_x, T* d_gamma) {                                                                        \
        const long all = n * h * w * c, out = pool ? n * (h / 2) * (w / 2) * c : all;                                \
        for (long t = 0; t < tasks; t++)                                                                              \
            (pool ? second<T, 2> : second<T, 1>)(v + t * all, v_gamma, v_beta, g + t * out, x + t * all, z + t * out,\
                                                 y + t * out, gamma, mean + t * c, r + t * c, sums + t * 2 * c,      \
                                                 {n, h, w, c, threads}, given, scratch, d_g + t * out, d_x + t * all,\
                                                 d_gamma + t * c);                                                    \
    }

OF_TYPE(float, float32)
OF_TYPE(double, float64)
