"""A self-contained HTML page: no request to any host, light and dark, readable on a phone and in print."""

from html import escape

BODY = "body.html"  # of a case study, for the page of all results

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --soft: #f3f4f6; --line: #c8ccd2; --link: #0059b3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #16181c; --soft: #23262c; --line: #4a4f58; --link: #7cb7ff; }
  img { background: #fff; padding: 4px; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); }
a { color: var(--link); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1.05rem; }
nav ul { columns: 2 16rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--link); }
th button::after { content: " \\2195"; opacity: .5; }
tbody tr:nth-child(even) { background: var(--soft); }
img { max-width: 100%; height: auto; }
code, pre { font-family: ui-monospace, monospace; font-size: .85em; }
pre.tokens { white-space: pre-wrap; overflow-wrap: anywhere; background: #fff; color: #111; padding: .5rem;
  border: 1px solid var(--line); line-height: 1.7; }
.t:hover { outline: 2px solid #0072b2; }
.problem, .missing { background: var(--soft); padding: .5rem .75rem; border-left: 4px solid var(--line); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem; }
.columns article { min-width: 0; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
footer { margin-top: 3rem; font-size: .85rem; border-top: 1px solid var(--line); }
@media print { nav { display: none; } h2 { break-after: avoid; } th button::after { content: ""; } }
"""

SORT = """
document.querySelectorAll("table").forEach(table => table.querySelectorAll("thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent; head.textContent = ""; head.append(button);
  button.addEventListener("click", () => {
    const body = table.tBodies[0], up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => { const text = row.cells[column].textContent.trim(), n = parseFloat(text.replace(/,/g, ""));
      return [text === "" ? 1 : 0, Number.isNaN(n) ? 1 : 0, Number.isNaN(n) ? text : n]; };
    const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;
    [...body.rows].map(row => [key(row), row]).sort(([a], [b]) => compare(a[0], b[0]) ||
      (up ? 1 : -1) * (compare(a[1], b[1]) || compare(a[2], b[2]))).forEach(([, row]) => body.append(row));
  });
}));
"""


def page(title: str, body: str, command: str) -> str:
    """The page around a body of trusted HTML (text of others must come escaped)."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n<footer><p>Made by <code>{escape(command)}</code>.</p></footer>"
        f"<script>{SORT}</script></body></html>\n"
    )
