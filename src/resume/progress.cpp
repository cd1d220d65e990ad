#include "calque/resume/progress.h"

#include <cmath>
#include <cstdlib>

#include "calque/core/error.h"
#include "calque/io/json.h"
#include "calque/record/report_json.h"

namespace calque::resume {
namespace {

using io::Json;

// Writes a double so that every bit can be read back; JSON has no NaN.
Json number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double number_in(const Json& json) {
  return json.is_string() ? std::strtod(json.string().c_str(), nullptr) : json.number();
}

std::string line(const Json& json) { return json.dump(); }

Json json_of(const record::ModuleReport& m) {
  const quant::RoundingReport& r = m.rounding;
  return Json::array({m.block, m.module, m.role, m.out_features, m.in_features, m.tokens,
                      m.nonfinite_tokens, number(m.seconds), number(m.upstream_shift), r.method,
                      number(r.loss), number(r.relative_error), number(r.damp_percent),
                      r.dead_columns, r.fallback_reason});
}

record::ModuleReport module_in(const Json& json) {
  record::ModuleReport m;
  m.block = json.at(0).integer();
  m.module = json.at(1).string();
  m.role = json.at(2).string();
  m.out_features = json.at(3).integer();
  m.in_features = json.at(4).integer();
  m.tokens = json.at(5).integer();
  m.nonfinite_tokens = json.at(6).integer();
  m.seconds = number_in(json.at(7));
  m.upstream_shift = number_in(json.at(8));
  m.rounding.method = json.at(9).string();
  m.rounding.loss = number_in(json.at(10));
  m.rounding.relative_error = number_in(json.at(11));
  m.rounding.damp_percent = number_in(json.at(12));
  m.rounding.dead_columns = json.at(13).integer();
  m.rounding.fallback_reason = json.at(14).string();
  return m;
}

Json json_of(const RunTotals& totals) {
  Json stages = Json::array();
  for (const record::NamedStage& stage : record::kStages)
    stages.push_back(totals.stages.*stage.seconds);
  return {{"seconds", totals.seconds},
          {"stages", stages},
          {"warnings", totals.warnings},
          {"log_bytes", totals.log_bytes},
          {"peak_bytes", totals.peak_bytes}};
}

RunTotals totals_in(const Json& json) {
  RunTotals totals;
  totals.seconds = json.at("seconds").number();
  for (std::size_t i = 0; i < record::kStages.size(); ++i)
    totals.stages.*record::kStages[i].seconds = json.at("stages").at(i).number();
  totals.warnings = json.at("warnings").get<std::vector<std::string>>();
  totals.log_bytes = json.at("log_bytes").natural();
  totals.peak_bytes = json.at("peak_bytes").natural();
  return totals;
}

void add_pass(const Json& json, RunProgress& progress) {
  PassProgress& pass = progress.passes[json.at("pass").get<std::size_t>()];
  pass.blocks = json.at("blocks").integer();
  pass.complete = json.at("complete").boolean();
  pass.notes = json.at("notes").get<std::vector<std::string>>();
  pass.streams = json.at("streams").get<decltype(pass.streams)>();
  pass.rounding.uncorrected = json.at("uncorrected").get<std::set<std::string>>();
  for (const Json& name : json.at("given").elements()) pass.rounding.given.push_back(name.string());
  for (const Json& module : json.at("modules").elements())
    pass.rounding.modules.push_back(module_in(module));
  progress.totals = totals_in(json.at("totals"));
}

void add_record(const Json& json, RunProgress& progress) {
  const std::string& kind = json.at("record").string();
  if (kind == "begin") {
    progress.id = json.at("id").string();
    for (const Json& begun : json.at("exports").elements()) {
      formats::ExportRequest& request = progress.begun.emplace_back();
      request.format = begun.at("format").string();
      request.path = begun.at("path").string();
    }
  } else if (kind == "resumed") {
    ++progress.resumed;
  } else if (kind == "fields") {
    Fields& fields = progress.fields[json.at("group").string()];
    fields.clear();
    for (const Json& field : json.at("fields").elements())
      fields.emplace_back(field.at(0).string(), field.at(1).string());
  } else if (kind == "pass") {
    add_pass(json, progress);
  } else if (kind == "export") {
    progress.exports.insert(json.at("export").get<std::size_t>());
    progress.totals = totals_in(json.at("totals"));
  } else if (kind == "evaluation") {
    progress.evaluations.push_back(record::evaluation_from(json.at("evaluation")));
    progress.totals = totals_in(json.at("totals"));
  } else if (kind == "task") {
    progress.tasks.push_back(record::task_from(json.at("task")));
    progress.totals = totals_in(json.at("totals"));
  } else {
    throw Error(ErrorKind::kInput, "E307", "unknown record '" + kind + "'");
  }
}

}  // namespace

std::string begin_record(const std::string& run_id,
                         const std::vector<formats::ExportRequest>& exports) {
  Json begun = Json::array();
  for (const formats::ExportRequest& request : exports)
    begun.push_back(
        {{"format", request.format}, {"path", std::filesystem::absolute(request.path).string()}});
  return line({{"record", "begin"}, {"id", run_id}, {"exports", begun}});
}

std::string resumed_record() { return line({{"record", "resumed"}}); }

std::string fields_record(const std::string& group, const Fields& fields) {
  Json list = Json::array();
  for (const auto& [name, value] : fields) list.push_back(Json::array({name, value}));
  return line({{"record", "fields"}, {"group", group}, {"fields", list}});
}

std::string export_record(std::size_t index, const RunTotals& totals) {
  return line({{"record", "export"}, {"export", index}, {"totals", json_of(totals)}});
}

std::string evaluation_record(const record::EvaluationReport& text, const RunTotals& totals) {
  return line({{"record", "evaluation"},
               {"evaluation", record::json_of(text)},
               {"totals", json_of(totals)}});
}

std::string task_record(const record::TaskReport& task, const RunTotals& totals) {
  return line({{"record", "task"}, {"task", record::json_of(task)}, {"totals", json_of(totals)}});
}

std::string pass_record(std::size_t pass, const PassProgress& now, const PassProgress& before,
                        const RunTotals& totals) {
  Json given = Json::array(), modules = Json::array();
  for (std::size_t i = before.rounding.given.size(); i < now.rounding.given.size(); ++i)
    given.push_back(now.rounding.given[i]);
  for (std::size_t i = before.rounding.modules.size(); i < now.rounding.modules.size(); ++i)
    modules.push_back(json_of(now.rounding.modules[i]));
  return line({{"record", "pass"},
               {"pass", pass},
               {"blocks", now.blocks},
               {"complete", now.complete},
               {"notes", now.notes},
               {"streams", now.streams},
               {"uncorrected", now.rounding.uncorrected},
               {"given", given},
               {"modules", modules},
               {"totals", json_of(totals)}});
}

RunProgress read_progress(const std::vector<std::string>& records) {
  RunProgress progress;
  try {
    for (const std::string& record : records) add_record(io::parse_json(record), progress);
  } catch (const Error& error) {
    if (error.code() != "E162") throw;
    throw Error(ErrorKind::kInput, "E307",
                std::string("state/journal was not written by this version: ") + error.what() +
                    ". Start again with --resume never");
  }
  return progress;
}

}  // namespace calque::resume
