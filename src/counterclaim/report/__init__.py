"""A run's verdict as pages: HTML for people, Markdown for a pull request, JUnit and SARIF for CI.

The report computes nothing: it draws what it is given, and the same page gives the same bytes.
"""

from counterclaim.report.heads import render_attribution
from counterclaim.report.html import render_html
from counterclaim.report.junit import render_junit
from counterclaim.report.markdown import render_markdown
from counterclaim.report.page import Page
from counterclaim.report.probed import figures as probe_figures
from counterclaim.report.replicated import render_replication
from counterclaim.report.sarif import render_sarif
from counterclaim.report.series import believed_by, render_series, summary

__all__ = [
    "Page", "believed_by", "probe_figures", "render_attribution", "render_html", "render_junit", "render_markdown",
    "render_replication", "render_sarif", "render_series", "summary",
]  # fmt: skip
