"""How reports look: light and dark by the reader's own setting, and printable."""

CSS = """
:root { --ground: #f5f7f9; --card: #ffffff; --ink: #1f2933; --faint: #5d6b7a; --line: #e1e6ec;
  --accent: #0b6e99; --note: #fff6e0; --note-line: #e69f00; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #12161b; --card: #1b2128; --ink: #e3e8ee; --faint: #98a5b3; --line: #2d3640;
    --accent: #6cb8de; --note: #2e2716; --note-line: #e69f00; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .9rem; }
header p { margin: .4rem 0 0; color: var(--faint); overflow-wrap: anywhere; }
.tiles { display: grid; gap: .9rem; margin: 1.6rem 0;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tiles:empty { display: none; }
.tiles div, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles div { padding: .9rem 1.1rem; }
.tiles strong { display: block; font-size: 1.5rem; line-height: 1.3; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.tiles span { color: var(--faint); font-size: .85rem; }
section { padding: 1.3rem 1.4rem; margin: 1.1rem 0; }
section > :last-child { margin-bottom: 0; }
p { margin: 0 0 .8rem; }
.note { background: var(--note); border-left: 4px solid var(--note-line); border-radius: 4px;
  padding: .6rem .9rem; }
ul { margin: 0 0 .8rem; padding-left: 1.2rem; }
li { margin: .25rem 0; }
.wide { overflow-x: auto; margin-bottom: .9rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .4rem; }
th, td { padding: .42rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
thead th { color: var(--faint); font-weight: 600; }
th:first-child { text-align: left; }
tbody th { font-weight: 500; }
tbody tr:last-child > * { border-bottom: 0; }
figure { margin: 0 0 1.2rem; }
img { display: block; max-width: 100%; height: auto; border-radius: 8px; background: #fff; }
figcaption { color: var(--faint); font-size: .87rem; margin-top: .35rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); }
details > .wide, details > pre { margin-top: .6rem; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 6px; padding: .8rem;
  overflow-x: auto; font-size: .82rem; line-height: 1.45; }
footer { color: var(--faint); font-size: .85rem; margin-top: 1.6rem; }
@media print { body { background: #fff; } section, .tiles div { break-inside: avoid; } }
"""
