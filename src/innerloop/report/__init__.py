"""Tables, figures and the page of a study: reads the files of a folder and computes nothing."""

from innerloop.report.captions import answer
from innerloop.report.page import write_report
from innerloop.report.summary import ReportError, read_summary
from innerloop.report.tables import Table, tables

__all__ = ["ReportError", "Table", "answer", "read_summary", "tables", "write_report"]
