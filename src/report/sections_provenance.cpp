#include <fmt/format.h>

#include <algorithm>

#include "report/sections.h"

namespace calque::report {
namespace {

std::string code(const std::string& text) { return "<code>" + escaped(text) + "</code>"; }

void add_token_rows(HtmlTable& table, const std::string& use, const text::Manifest& manifest) {
  for (const text::SourceReport& source : manifest.sources)
    table.rows.push_back(
        {{escaped(use), escaped(source.path), std::to_string(source.tokens),
          source.rows_used > 0 ? std::to_string(source.rows_used) : "", code(source.sha256)},
         ""});
  if (!manifest.tokens_sha256.empty())
    table.rows.push_back(
        {{escaped(use), "token ids that were used", "", "", code(manifest.tokens_sha256)}, ""});
}

std::string definition(const std::string& term, const std::string& html) {
  return html.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", escaped(term), html);
}

std::string devices_text(const Run& run) {
  std::string text;
  for (const record::NamedStageDevice& stage : record::kStageDevices)
    if (const std::string& device = run.stage_devices.*stage.device; !device.empty())
      text += (text.empty() ? "" : ", ") + std::string(stage.name) + " " + device;
  return text;
}

std::string times_continued(int times) {
  if (times == 0) return "";
  return fmt::format("{} after a stop; the bytes are those of a run without one",
                     times == 1 ? std::string("once") : fmt::format("{} times", times));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

}  // namespace

void add_warnings(Page& page, const Run& run) {
  if (run.warnings.empty()) return;
  std::string list;
  for (const std::string& warning : run.warnings) list += "<li>" + escaped(warning) + "</li>\n";
  page.html(fmt::format("<div class=\"banner\"><strong>{} warning{}</strong><ul>\n{}</ul></div>\n",
                        run.warnings.size(), run.warnings.size() == 1 ? "" : "s", list));
}

std::string data_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"used for", false}, {"file", false}, {"tokens"}, {"rows"}, {"SHA-256", false}};
  add_token_rows(table, "calibration", run.calibration);
  for (const record::EvaluationReport& evaluation : run.evaluations)
    add_token_rows(table, fmt::format("evaluation: {}, {}", evaluation.text, evaluation.seqlen),
                   evaluation.manifest);
  return table.rows.empty() ? "" : html_of(table);
}

void add_provenance(Page& page, const Run& run) {
  page.section("How it was made");
  std::string facts;
  facts += definition("original", escaped(run.source_name));
  facts += definition("calque", escaped(run.calque_version));
  facts += definition("threads", run.threads > 0
                                     ? fmt::format("{} (results do not depend on it)", run.threads)
                                     : "");
  facts += definition("forward pass", escaped(run.forward_dtype));
  facts += definition("devices", escaped(devices_text(run)));
  facts +=
      definition("tokenizer", escaped(run.calibration.tokenizer.empty() && !run.evaluations.empty()
                                          ? run.evaluations.front().manifest.tokenizer
                                          : run.calibration.tokenizer));
  facts += definition("continued", times_continued(run.resumed));
  facts += definition("from other points", escaped(joined(run.shared)));
  facts += definition("again", run.resolved_job.empty()
                                   ? ""
                                   : "<code>calque run job.resolved.yaml</code>, the job below");
  page.html("<dl>\n" + facts + "</dl>\n");
  page.html(data_table(run));
  if (!run.resolved_job.empty())
    page.folded("The job with every setting (job.resolved.yaml)", preformatted(run.resolved_job));
}

}  // namespace calque::report
