#include "forecast/planned_modules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "calque/quant/methods.h"

namespace calque::forecast {
namespace {

// A name and the numbers taken out from between its dots: "model.layers.#.mlp.up_proj", 3.
struct NumberedName {
  std::string text;
  std::vector<int> numbers;
};

NumberedName numbered(const std::string& name) {
  NumberedName result;
  std::size_t at = 0;
  while (at <= name.size()) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    const std::string part = name.substr(at, dot - at);
    const bool digits =
        !part.empty() && part.size() < 7 &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (digits) result.numbers.push_back(std::stoi(part));
    result.text += (at > 0 ? "." : "") + (digits ? std::string("#") : part);
    at = dot + 1;
  }
  return result;
}

// "3", "{0-31}", "{0-3,7}"
std::string ranges_text(const std::set<int>& numbers) {
  std::vector<std::string> parts;
  for (auto first = numbers.begin(); first != numbers.end();) {
    auto last = first;
    while (std::next(last) != numbers.end() && *std::next(last) == *last + 1) ++last;
    parts.push_back(first == last ? fmt::format("{}", *first)
                                  : fmt::format("{}-{}", *first, *last));
    first = std::next(last);
  }
  if (numbers.size() == 1) return parts.front();
  return fmt::format("{{{}}}", fmt::join(parts, ","));
}

std::string with_numbers(const std::string& text, const std::vector<std::set<int>>& numbers) {
  std::string result;
  std::size_t next = 0;
  for (const char c : text)
    if (c == '#')
      result += ranges_text(numbers[next++]);
    else
      result += c;
  return result;
}

// The set of numbers at each position of the tuples.
std::vector<std::set<int>> places_of(const std::vector<std::vector<int>>& tuples) {
  std::vector<std::set<int>> places(tuples.front().size());
  for (const std::vector<int>& tuple : tuples)
    for (std::size_t i = 0; i < tuple.size(); ++i) places[i].insert(tuple[i]);
  return places;
}

// True if the tuples are all combinations of these sets.
bool is_product(const std::vector<std::vector<int>>& tuples,
                const std::vector<std::set<int>>& places) {
  std::size_t combinations = 1;
  for (const std::set<int>& place : places) combinations *= place.size();
  return combinations == tuples.size();
}

// "{q,k,v}_proj": roles with a common ending.
std::string braces(const std::vector<std::string>& roles) {
  if (roles.size() == 1) return roles.front();
  std::string ending = roles.front();
  for (const std::string& role : roles)
    while (!role.ends_with(ending)) ending.erase(0, 1);
  const std::size_t underscore = ending.find('_');
  ending = underscore == std::string::npos ? "" : ending.substr(underscore);
  std::vector<std::string> starts;
  for (const std::string& role : roles)
    starts.push_back(role.substr(0, role.size() - ending.size()));
  return fmt::format("{{{}}}{}", fmt::join(starts, ","), ending);
}

std::string module_name(const std::string& tensor) {
  constexpr std::string_view kSuffix = ".weight";
  return tensor.ends_with(kSuffix) ? tensor.substr(0, tensor.size() - kSuffix.size()) : tensor;
}

// The output head is measured as the linears of blocks are, but no channel scales reach it.
bool is_head(const formats::TensorPlan& planned) {
  return planned.tensor.name.ends_with("lm_head.weight");
}

bool is_calibrated(const job::Job& job, const formats::TensorPlan& planned) {
  return job.calibration.given() && (planned.in_block_linear || is_head(planned));
}

bool feeds_back(const job::Job& job, const formats::TensorPlan& planned) {
  return job.quantization.rounding->feeds_back && is_calibrated(job, planned) &&
         quant::takes_feedback(*planned.grid);
}

// Follows the decision in quant/gptq.cpp.
std::string method_of(const job::Job& job, const formats::TensorPlan& planned) {
  const job::QuantizationSettings& settings = job.quantization;
  const bool calibrated = is_calibrated(job, planned);
  const bool weighed = calibrated || !settings.imatrix.empty();
  if (planned.grid->block)
    return std::string(feeds_back(job, planned) ? settings.rounding->name
                       : weighed                ? quant::kByImportance
                                                : quant::kRtn.name);
  if (!calibrated) return std::string(quant::kRtn.name);
  if (!settings.transform->rescales_channels() || is_head(planned))
    return std::string(settings.rounding->name);
  return fmt::format("{}+{}", settings.transform->name, settings.rounding->name);
}

PlannedModules described(const job::Job& job, const formats::TensorPlan& planned) {
  PlannedModules modules;
  modules.stored_as = planned.stored_as;
  modules.count = 1;
  modules.bytes = planned.bytes;
  modules.weights = 1;
  for (const Index n : planned.tensor.shape) modules.weights *= static_cast<double>(n);
  if (!planned.grid) return modules;
  const quant::Grid& grid = *planned.grid;
  modules.method = method_of(job, planned);
  if (feeds_back(job, planned))
    modules.order = grid.desc_act                        ? "desc_act"
                    : job.quantization.options.act_order ? "static act order"
                                                         : "left to right";
  if (grid.block) modules.block = planned.stored_as;
  modules.bits = grid.bits;
  modules.group_size = grid.group_size;
  modules.sym = grid.offset_kind == OffsetKind::kMiddleCode;
  return modules;
}

std::string settings_of(const PlannedModules& m) {
  return fmt::format("{}|{}|{}|{}", m.stored_as, m.method, m.order, m.sym);
}

void add(const PlannedModules& some, PlannedModules& to) {
  to.count += some.count;
  to.weights += some.weights;
  to.bytes += some.bytes;
}

// Tensors with the same settings whose names differ only in numbers.
struct Alike {
  PlannedModules modules;
  NumberedName name;  // the first tensor's
  std::vector<std::vector<int>> tuples;
};

// Groups whose names differ only in their last part, the role.
struct Place {
  std::string parent;
  std::vector<std::string> roles;
  PlannedModules modules;
};

std::vector<Alike> alike_but_for_numbers(const job::Job& job, const formats::ExportPlan& plan) {
  std::vector<Alike> groups;
  std::map<std::string, std::size_t> places;
  const auto add_to = [&](const std::string& key, const PlannedModules& one, NumberedName name) {
    const auto [place, added] = places.emplace(key, groups.size());
    if (added) groups.push_back({one, name, {}});
    if (!added) add(one, groups[place->second].modules);
    groups[place->second].tuples.push_back(std::move(name.numbers));
  };
  for (const formats::TensorPlan& planned : plan.tensors) {
    const PlannedModules one = described(job, planned);
    NumberedName name = numbered(module_name(planned.tensor.name));
    const std::string key = name.text + "|" + settings_of(one);
    add_to(key, one, std::move(name));
  }
  return groups;
}

// One pattern per group, or one for each first number if the numbers are not all combinations.
std::vector<std::string> patterns_of(const Alike& group) {
  const auto places = places_of(group.tuples);
  if (is_product(group.tuples, places)) return {with_numbers(group.name.text, places)};
  std::map<int, std::vector<std::vector<int>>> by_first;
  for (const std::vector<int>& tuple : group.tuples) by_first[tuple.front()].push_back(tuple);
  std::vector<std::string> patterns;
  for (const auto& [first, tuples] : by_first)
    patterns.push_back(with_numbers(group.name.text, places_of(tuples)));
  return patterns;
}

void join_roles(const Alike& group, std::vector<Place>& result) {
  const std::string names = fmt::format("{}", fmt::join(patterns_of(group), " "));
  const std::size_t dot = names.rfind('.');
  const bool in_blocks = !group.name.numbers.empty() && names.find(' ') == std::string::npos;
  const std::string parent = dot == std::string::npos || !in_blocks ? "" : names.substr(0, dot + 1);
  const std::string role = names.substr(parent.size());
  const auto same = [&](const Place& place) {
    return !parent.empty() && place.parent == parent &&
           settings_of(place.modules) == settings_of(group.modules);
  };
  const auto found = std::find_if(result.begin(), result.end(), same);
  if (found == result.end()) {
    result.push_back({parent, {role}, group.modules});
    return;
  }
  found->roles.push_back(role);
  add(group.modules, found->modules);
}

}  // namespace

std::vector<PlannedModules> planned_modules(const job::Job& job, const formats::ExportPlan& plan,
                                            bool every_module) {
  std::vector<PlannedModules> result;
  if (every_module) {
    for (const formats::TensorPlan& planned : plan.tensors) {
      result.push_back(described(job, planned));
      result.back().names = module_name(planned.tensor.name);
    }
    return result;
  }
  std::vector<Place> joined;
  for (const Alike& group : alike_but_for_numbers(job, plan)) join_roles(group, joined);
  for (Place& place : joined) {
    place.modules.names = place.parent + braces(place.roles);
    result.push_back(std::move(place.modules));
  }
  return result;
}

}  // namespace calque::forecast
