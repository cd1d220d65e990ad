#include "calque/record/allocation.h"

namespace calque::record {

using io::Json;

std::uint64_t Allocation::bytes() const {
  std::uint64_t sum = fixed_bytes;
  for (const AllocatedPart& part : parts) sum += part.bytes_O[part.chosen];
  return sum;
}

double Allocation::cost() const {
  double sum = 0;
  for (const AllocatedPart& part : parts) sum += part.cost_O[part.chosen];
  return sum;
}

double Allocation::cost_of(std::size_t option) const {
  double sum = 0;
  for (const AllocatedPart& part : parts) sum += part.cost_O[option];
  return sum;
}

Json json_of(const Allocation& allocation) {
  Json parts = Json::array();
  for (const AllocatedPart& part : allocation.parts)
    parts.push_back({{"name", part.name},
                     {"block", part.block},
                     {"bytes", part.bytes_O},
                     {"cost", part.cost_O},
                     {"chosen", allocation.options[part.chosen]}});
  return {{"options", allocation.options},
          {"measured", allocation.measured},
          {"budget_bytes", allocation.budget_bytes},
          {"fixed_bytes", allocation.fixed_bytes},
          {"predicted_cost", allocation.cost()},
          {"parts", parts},
          {"rules", allocation.rules}};
}

Allocation allocation_from(const Json& json) {
  Allocation allocation{.options = json.at("options").get<std::vector<std::string>>(),
                        .measured = json.at("measured").boolean(),
                        .budget_bytes = json.at("budget_bytes").natural(),
                        .fixed_bytes = json.at("fixed_bytes").natural(),
                        .parts = {},
                        .rules = json.at("rules").get<std::vector<std::string>>()};
  for (const Json& part : json.at("parts").elements()) {
    AllocatedPart& read = allocation.parts.emplace_back(
        AllocatedPart{.name = part.at("name").string(),
                      .block = part.at("block").integer(),
                      .bytes_O = part.at("bytes").get<std::vector<std::uint64_t>>(),
                      .cost_O = part.at("cost").get<std::vector<double>>()});
    const std::string& chosen = part.at("chosen").string();
    while (read.chosen + 1 < allocation.options.size() && allocation.options[read.chosen] != chosen)
      ++read.chosen;
  }
  return allocation;
}

}  // namespace calque::record
