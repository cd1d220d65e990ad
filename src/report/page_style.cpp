#include "report/page_style.h"

namespace calque::report {

const std::string_view kPageStyle = R"(* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 10px; padding-bottom: 5px; border-bottom: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 24px 0 6px; }
p { margin: 8px 0; max-width: 78ch; }
.note, figcaption { max-width: 110ch; }
a { color: var(--accent); }
.sub, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: 13px; }
.banner { border-left: 4px solid var(--s1); background: var(--panel); padding: 8px 14px; margin: 16px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 12px; margin: 20px 0 8px; }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 11px 14px 12px; min-width: 0; }
.card .name { font-size: 12px; color: var(--muted); }
.card .value { font-size: 22px; line-height: 1.3; font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.card .value.long { font-size: 16px; line-height: 1.6; }
.card .small { font-size: 12.5px; color: var(--muted); overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 6px; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--rule); vertical-align: bottom; }
th.n, td.n { text-align: right; }
td.wrap { white-space: normal; min-width: 26ch; max-width: 60ch; overflow-wrap: anywhere; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
tr.original td { color: var(--muted); }
tr.front td:first-child { font-weight: 600; }
tr.failed td { color: var(--s1); }
td small { color: var(--muted); font-size: 11px; }
table.sortable th { cursor: pointer; }
table.sortable th:hover { color: var(--ink); text-decoration: underline; }
figure { margin: 14px 0; }
.figures { display: flex; flex-wrap: wrap; gap: 10px 26px; align-items: flex-start; }
.figures > div { min-width: 0; max-width: 100%; }
svg.plot { width: 100%; height: auto; display: block; }
.files { font-size: 11.5px; color: var(--muted); }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 10px 12px; overflow-x: auto; font: 12px/1.45 ui-monospace, "Liberation Mono", monospace; }
code { font: 12.5px ui-monospace, "Liberation Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; font-size: 13.5px; margin: 10px 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 18px 14px 40px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; }
  .wide { overflow-x: auto; } .wide > svg.plot { min-width: 620px; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  body { font-size: 11px; } main { max-width: none; padding: 0; }
  h1 { font-size: 20px; } h2 { font-size: 14px; margin-top: 20px; break-after: avoid; } h3 { break-after: avoid; }
  figure, .card, tr, .figures > div { break-inside: avoid; }
  .cards { grid-template-columns: repeat(4, 1fr); gap: 6px; } .card { padding: 6px 8px; } .card .value { font-size: 15px; }
  .scroll { overflow: visible; } table { font-size: 8.5px; } th, td { padding: 2px 5px; } td small { font-size: 7.5px; }
  th:first-child, td:first-child { position: static; }
  .files, summary { display: none; }
  .figures { gap: 8px 18px; } .figures > div { flex: 0 1 calc(50% - 10px) !important; } .figures > div.wide { flex-basis: 100% !important; }
  pre { white-space: pre-wrap; font-size: 8px; columns: 2; border: none; padding: 0; }
}
)";

const std::string_view kPageScript =
    R"(document.querySelectorAll('table.sortable th').forEach(function (th) {
  th.addEventListener('click', function () {
    var body = th.closest('table').tBodies[0], at = th.cellIndex;
    var down = th.dataset.sorted === 'up';
    th.parentNode.querySelectorAll('th').forEach(function (other) { delete other.dataset.sorted; });
    th.dataset.sorted = down ? 'down' : 'up';
    var key = function (row) { return row.cells[at].dataset.v || row.cells[at].textContent; };
    Array.from(body.rows).sort(function (a, b) {
      var x = key(a), y = key(b), p = parseFloat(x), q = parseFloat(y);
      var order = isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q;
      return down ? -order : order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
addEventListener('beforeprint', function () {
  document.querySelectorAll('details').forEach(function (d) { d.open = true; });
});
)";

}  // namespace calque::report
