#include "calque/forecast/forecast.h"
#include "calque/formats/format.h"
#include "calque/io/json.h"
#include "calque/record/report_json.h"

namespace calque::forecast {
namespace {

using io::Json;

Json json_of(const PlannedModules& m) {
  Json json = {{"modules", m.names},       {"count", m.count},
               {"stored_as", m.stored_as}, {"weights", m.weights},
               {"bytes", m.bytes},         {"method", m.method.empty() ? Json() : Json(m.method)}};
  if (m.bits == 0) return json;
  json["order"] = m.order.empty() ? Json() : Json(m.order);
  json["bits"] = m.bits;
  if (m.block.empty()) {
    json["group_size"] = m.group_size;
    json["sym"] = m.sym;
  } else {
    json["block"] = m.block;
  }
  return json;
}

Json json_of(const PlannedExport& planned) {
  const formats::ExportRequest& request = planned.plan.request;
  Json json = {{"path", request.path.string()}, {"format", request.format}};
  if (format_of(request).has_block_types) json["type"] = request.type;
  json["tensor_bytes"] = planned.plan.tensor_bytes;
  json["bits_per_weight"] = planned.plan.bits_per_weight;
  json["weights_file_bytes"] = planned.weights_bytes();
  json["other_file_bytes"] = planned.other_bytes();
  json["files"] = Json::array();
  for (const formats::PlannedFile& file : planned.files)
    json["files"].push_back(
        {{"name", file.name}, {"bytes", file.bytes}, {"weights", file.weights}});
  json["modules"] = Json::array();
  for (const PlannedModules& modules : planned.modules) json["modules"].push_back(json_of(modules));
  return json;
}

Json json_of(const MemoryPlan& plan) {
  Json stages = Json::array();
  for (const MemoryPlan::Stage& stage : plan.stages) {
    Json items = Json::array();
    for (const StageMemory::Item& item : stage.items)
      items.push_back({{"what", item.what}, {"bytes", item.bytes}});
    stages.push_back({{"stage", stage.stage},
                      {"peak_bytes", stage.peak_bytes()},
                      {"activation_ram_bytes", stage.activation_ram_bytes},
                      {"activation_file_bytes", stage.activation_file_bytes},
                      {"items", items}});
  }
  return {{"peak_bytes", plan.peak_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"activation_ram_bytes", plan.activation_ram_bytes},
          {"activation_file_bytes", plan.activation_file_bytes},
          {"stages", stages}};
}

}  // namespace

std::string memory_plan_json(const MemoryPlan& plan) { return json_of(plan).dump(); }

std::string forecast_json(const Forecast& plan) {
  Json exports = Json::array();
  for (const PlannedExport& planned : plan.exports) exports.push_back(json_of(planned));
  const Json json = {{"job", plan.job_name},
                     {"exports", exports},
                     {"memory", json_of(plan.memory)},
                     {"disk",
                      {{"total_bytes", plan.disk.total()},
                       {"output_bytes", plan.disk.output_bytes},
                       {"activation_bytes", plan.disk.activation_bytes},
                       {"state_bytes", plan.disk.state_bytes}}},
                     {"time",
                      {{"seconds", plan.time.seconds},
                       {"from", plan.time.from},
                       {"stage_seconds", record::json_of(plan.time.stages)},
                       {"float32_operations_a_second", plan.rates.float32},
                       {"bfloat16_operations_a_second", plan.rates.bfloat16}}},
                     {"forward_dtype", plan.forward_dtype},
                     {"calibration_rows", plan.calibration_rows},
                     {"seqlen", plan.seqlen},
                     {"warnings", plan.warnings}};
  return json.dump(2) + "\n";
}

}  // namespace calque::forecast
