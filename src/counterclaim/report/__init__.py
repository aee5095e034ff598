"""A run's verdict as pages: HTML for people, Markdown for a pull request, JUnit and SARIF for CI.

The report computes nothing: it draws what it is given, and the same page gives the same bytes.
"""

from counterclaim.report.html import render_html
from counterclaim.report.junit import render_junit
from counterclaim.report.markdown import render_markdown
from counterclaim.report.page import Page
from counterclaim.report.probed import figures as probe_figures
from counterclaim.report.sarif import render_sarif

__all__ = ["Page", "probe_figures", "render_html", "render_junit", "render_markdown", "render_sarif"]
