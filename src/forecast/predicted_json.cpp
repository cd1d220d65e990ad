#include "forecast/predicted_json.h"

#include <nlohmann/json.hpp>

#include "record/stage_seconds.h"

namespace calque::forecast {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const record::StageSeconds& stages) {
  Json json = Json::object();
  for (const record::NamedStage& stage : record::named_stages())
    json[std::string(stage.name)] = stages.*stage.seconds;
  return json;
}

}  // namespace

std::string stage_seconds_json(const record::StageSeconds& stages) { return json_of(stages).dump(); }

std::string predicted_json(const record::Predicted& predicted) {
  return Json{{"seconds", predicted.seconds},
              {"seconds_from", predicted.seconds_from},
              {"stage_seconds", json_of(predicted.stages)},
              {"peak_bytes", predicted.peak_bytes},
              {"disk_bytes", predicted.disk_bytes}}
      .dump();
}

}  // namespace calque::forecast
