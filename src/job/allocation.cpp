#include "calque/job/allocation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "calque/core/error.h"
#include "calque/core/units.h"
#include "calque/formats/format.h"
#include "job/refuse.h"

namespace calque::job {
namespace {

using Costs = std::vector<std::vector<double>>;

// Types whose sizes lie apart; each is nearer to the original than the one before it.
constexpr const char* kGgufOptions[] = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"};
constexpr const char* kFolderOptions[] = {"2", "3", "4", "5", "6", "8"};
// Only the usual options next to the target are tried: a part is seldom worth more.
constexpr std::size_t kOptionsBelow = 2;
constexpr std::size_t kOptionsAbove = 3;

const formats::Format& format_of_job(const Job& job) { return format_of(job.exports.front()); }

int bits_of(const std::string& option) {
  int bits = 0;
  const char* const end = option.data() + option.size();
  const auto [stopped, fault] = std::from_chars(option.data(), end, bits);
  if (fault != std::errc() || stopped != end || bits < 2 || bits > 8)
    refuse("E135", fmt::format("quantization.allocation.options: '{}' is no number of bits from 2 "
                               "to 8, which is what folders have",
                               option));
  return bits;
}

// Every matrix that no key or rule fixes with this option.
Job with_option(const Job& job, const std::string& option) {
  Job uniform = job;
  if (format_of_job(job).has_block_types)
    uniform.exports.front().tensor_types.push_back({".", option});
  else
    uniform.quantization.grid.bits = bits_of(option);
  return uniform;
}

void check_can_choose(const Job& job) {
  const AllocationSettings& settings = job.quantization.allocation;
  if (settings.target_bpw && settings.target_size > 0)
    refuse("E135",
           "quantization.target_bpw and quantization.target_size both set the size; keep one");
  if (job.exports.size() != 1)
    refuse("E135", fmt::format("a target size is chosen for one export, and the job has {}. Write "
                               "one job for each",
                               job.exports.size()));
  const formats::ExportRequest& request = job.exports.front();
  const formats::Format& format = format_of(request);
  if (!request.scheme.empty())
    refuse("E135", fmt::format("scheme {} fixes the numbers of every matrix. Leave out scheme, or "
                               "the target size",
                               request.scheme));
  if (!format.has_block_types && format.packed == nullptr)
    refuse("E135", fmt::format("format '{}' has no widths to choose from", format.name));
  if (!job.calibration.given())
    refuse("E135",
           "a target size needs calibration text, which shows what each matrix can lose: give "
           "calibration.sources (calque's own texts: sources: [builtin]) or calibration.tokens");
}

struct Option {
  std::string name;
  formats::ExportPlan plan;
};

std::optional<Option> planned(const Job& job, const formats::SourceModel& source,
                              const std::string& name, bool named) {
  const Job uniform = with_option(job, name);
  try {
    return Option{name, plan_of_export(uniform, source, uniform.exports.front())};
  } catch (const Error& error) {
    if (named || error.code() != "E121") throw;
    return std::nullopt;  // the format does not have these bits
  }
}

// All options in order of their bytes.
std::vector<Option> planned_options(const Job& job, const formats::SourceModel& source) {
  const std::vector<std::string>& named = job.quantization.allocation.options;
  std::vector<std::string> names = named;
  if (names.empty() && format_of_job(job).has_block_types)
    names.assign(std::begin(kGgufOptions), std::end(kGgufOptions));
  else if (names.empty())
    names.assign(std::begin(kFolderOptions), std::end(kFolderOptions));
  std::vector<Option> options;
  for (const std::string& name : names)
    if (auto option = planned(job, source, name, !named.empty()))
      options.push_back(std::move(*option));
  std::ranges::stable_sort(options, {}, [](const Option& o) { return o.plan.tensor_bytes; });
  const auto same = [](const Option& a, const Option& b) {
    return a.plan.tensor_bytes == b.plan.tensor_bytes;
  };
  options.erase(std::unique(options.begin(), options.end(), same), options.end());
  if (options.size() < 2)
    refuse("E135",
           fmt::format("there is nothing to choose: {} {}, and at least two sizes are needed",
                       options.empty() ? "no option is possible"
                                       : "the only option is " + options.front().name,
                       named.empty() ? fmt::format("(format {})", format_of_job(job).name)
                                     : "(quantization.allocation.options)"));
  return options;
}

std::uint64_t budget_of(const AllocationSettings& settings, const formats::ExportPlan& plan) {
  if (!settings.target_bpw) return settings.target_size;
  const double weights = 8.0 * static_cast<double>(plan.tensor_bytes) / plan.bits_per_weight;
  return static_cast<std::uint64_t>(*settings.target_bpw * weights / 8.0);
}

void keep_those_around(std::uint64_t budget, std::vector<Option>& options) {
  const auto above = std::ranges::find_if(
      options, [budget](const Option& o) { return o.plan.tensor_bytes > budget; });
  const auto first = std::max(above - static_cast<std::ptrdiff_t>(kOptionsBelow), options.begin());
  const auto end = above + std::min<std::ptrdiff_t>(kOptionsAbove, options.end() - above);
  if (end - std::max(first, options.begin()) < 2) return;
  options.erase(end, options.end());
  options.erase(options.begin(), std::max(first, options.begin()));
}

// Weights that choose together, under the name of their part; the same order as `family`'s blocks.
std::vector<SizedPart> possible_parts(const model::FamilySpec& family, bool in_gguf) {
  std::vector<SizedPart> parts;
  std::map<std::string, std::size_t> places;
  const auto add = [&](const std::string& name, Index block, const std::string& weight) {
    const auto [place, is_new] = places.emplace(name, parts.size());
    if (is_new) parts.push_back({.name = name, .block = block});
    parts[place->second].weights.push_back(weight);
  };
  const auto add_outside = [&](const model::TensorSpec& tensor) {
    add(in_gguf ? tensor.gguf_name : tensor.name, -1, tensor.name);
  };
  add_outside(family.embedding);
  for (const model::BlockSpec& block : family.blocks)
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers)
        add(in_gguf ? linear.weight.gguf_name : block.name + ' ' + site.name, block.layer,
            linear.weight.name);
  if (!family.lm_head.empty()) add_outside(family.lm_head.front());
  return parts;
}

bool differs(const std::vector<Option>& options, const std::string& weight) {
  const formats::TensorPlan& first = options.front().plan.at(weight);
  return std::ranges::any_of(
      options, [&](const Option& option) { return option.plan.at(weight).bytes != first.bytes; });
}

// Only what the options change: the other weights of a part keep what rules say.
void keep_what_differs(const std::vector<Option>& options, std::vector<SizedPart>& parts) {
  for (SizedPart& part : parts) {
    std::erase_if(part.weights,
                  [&](const std::string& weight) { return !differs(options, weight); });
    for (const Option& option : options) {
      std::uint64_t bytes = 0;
      for (const std::string& weight : part.weights) bytes += option.plan.at(weight).bytes;
      part.bytes_O.push_back(bytes);
    }
  }
  std::erase_if(parts, [](const SizedPart& part) { return part.weights.empty(); });
}

std::uint64_t bytes_with(const SizeProblem& problem, bool most) {
  std::uint64_t bytes = problem.fixed_bytes;
  for (const SizedPart& part : problem.parts)
    bytes += most ? std::ranges::max(part.bytes_O) : std::ranges::min(part.bytes_O);
  return bytes;
}

std::string target_text(const AllocationSettings& settings) {
  return settings.target_bpw ? fmt::format("quantization.target_bpw is {}", *settings.target_bpw)
                             : fmt::format("quantization.target_size is {}",
                                           decimal_bytes_text(settings.target_size));
}

void check_reach(const Job& job, const SizeProblem& problem) {
  if (problem.budget_bytes >= problem.least_bytes()) return;
  const formats::ExportPlan& plan = problem.plans_O.front();
  const double per_byte = plan.bits_per_weight / static_cast<double>(plan.tensor_bytes);
  const auto shown = [&](std::uint64_t bytes) {
    return fmt::format("{:.3f} bits per weight or {}", per_byte * static_cast<double>(bytes),
                       decimal_bytes_text(bytes));
  };
  refuse("E136",
         fmt::format("{}, but with options {} the file has at least {} and at most {}, everything "
                     "that is not quantized included. Choose a target between them{}",
                     target_text(job.quantization.allocation), fmt::join(problem.options, ", "),
                     shown(problem.least_bytes()), shown(problem.most_bytes()),
                     job.quantization.allocation.options.empty()
                         ? ""
                         : ", or a smaller option in quantization.allocation.options"));
}

// Options of a part on the lower convex hull of cost over bytes, from its cheapest in bytes on.
std::vector<std::size_t> hull_of(const SizedPart& part, const std::vector<double>& cost_O) {
  std::vector<std::size_t> order(part.bytes_O.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return std::pair(part.bytes_O[a], cost_O[a]) < std::pair(part.bytes_O[b], cost_O[b]);
  });
  const auto slope = [&](std::size_t from, std::size_t to) {  // cost saved a byte
    return (cost_O[from] - cost_O[to]) / static_cast<double>(part.bytes_O[to] - part.bytes_O[from]);
  };
  std::vector<std::size_t> hull;
  for (const std::size_t option : order) {
    if (!hull.empty() && cost_O[option] >= cost_O[hull.back()]) continue;
    while (hull.size() >= 2 &&
           slope(hull.back(), option) >= slope(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(option);
  }
  return hull;
}

struct Step {
  std::size_t part = 0;
  std::size_t to = 0;
  double gain_a_byte = 0;
};

// All steps along the hulls, the best first; those of one part stay in order, since hulls are
// convex.
std::vector<Step> steps_of(const SizeProblem& problem, const Costs& cost_PO,
                           std::vector<std::size_t>& option_P) {
  std::vector<Step> steps;
  for (std::size_t p = 0; p < problem.parts.size(); ++p) {
    const SizedPart& part = problem.parts[p];
    const std::vector<std::size_t> hull = hull_of(part, cost_PO[p]);
    option_P.push_back(hull.front());
    for (std::size_t i = 1; i < hull.size(); ++i)
      steps.push_back({p, hull[i],
                       (cost_PO[p][hull[i - 1]] - cost_PO[p][hull[i]]) /
                           static_cast<double>(part.bytes_O[hull[i]] - part.bytes_O[hull[i - 1]])});
  }
  std::ranges::stable_sort(steps, std::greater<>(), &Step::gain_a_byte);
  return steps;
}

// The one exchange that gains most with the bytes that are left; false: none.
bool exchange_one(const SizeProblem& problem, const Costs& cost_PO, std::uint64_t& left,
                  std::vector<std::size_t>& option_P) {
  double best = 0;
  Step step;
  for (std::size_t p = 0; p < problem.parts.size(); ++p) {
    const std::vector<std::uint64_t>& bytes_O = problem.parts[p].bytes_O;
    for (std::size_t o = 0; o < bytes_O.size(); ++o) {
      const double gain = cost_PO[p][option_P[p]] - cost_PO[p][o];
      if (gain <= best || bytes_O[o] > bytes_O[option_P[p]] + left) continue;
      best = gain;
      step = {p, o};
    }
  }
  if (best == 0) return false;
  const std::vector<std::uint64_t>& bytes_O = problem.parts[step.part].bytes_O;
  left = left + bytes_O[option_P[step.part]] - bytes_O[step.to];
  option_P[step.part] = step.to;
  return true;
}

// ---- Rules

// `text` as a regular expression; numbers in it are those of experts, and mean all of them.
std::string pattern_of(std::string_view text) {
  std::string pattern;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (std::isdigit(static_cast<unsigned char>(text[i])) != 0 && i > 0 && text[i - 1] == '.') {
      while (i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1])) != 0) ++i;
      pattern += "[0-9]+";
      continue;
    }
    if (text[i] == '.') pattern += '\\';
    pattern += text[i];
  }
  return pattern;
}

// A name around the number of its block: "model.layers.", 3, ".mlp.down_proj". No number: all of it
// is `before`.
struct NumberedName {
  std::string before;
  std::string number;
  std::string after;
};

NumberedName numbered(const std::string& name) {
  const std::size_t first = name.find_first_of("0123456789");
  if (first == std::string::npos || first == 0 || name[first - 1] != '.') return {name, "", ""};
  const std::size_t end = std::min(name.find_first_not_of("0123456789", first), name.size());
  return {name.substr(0, first), name.substr(first, end - first), name.substr(end)};
}

struct PatternRule {
  std::string pattern;
  std::string option;
};

// One rule for the same matrices of all blocks in which they take the same option.
std::vector<PatternRule> grouped(const std::vector<std::pair<std::string, std::string>>& options) {
  struct Group {
    NumberedName name;
    std::string option;
    std::vector<std::string> numbers;
  };
  std::vector<Group> groups;
  std::map<std::pair<std::string, std::string>, std::size_t> places;
  for (const auto& [name, option] : options) {
    const NumberedName parts = numbered(name);
    const std::string key = parts.before + '#' + pattern_of(parts.after);
    const auto [place, is_new] = places.emplace(std::pair(key, option), groups.size());
    if (is_new) groups.push_back({parts, option, {}});
    std::vector<std::string>& numbers = groups[place->second].numbers;
    if (numbers.empty() || numbers.back() != parts.number) numbers.push_back(parts.number);
  }
  std::vector<PatternRule> rules;
  for (const Group& group : groups) {
    const std::string list = fmt::format("{}", fmt::join(group.numbers, "|"));
    rules.push_back({pattern_of(group.name.before) +
                         (group.numbers.size() > 1 ? '(' + list + ')' : list) +
                         pattern_of(group.name.after) + '$',
                     group.option});
  }
  return rules;
}

std::string module_of(const std::string& weight) {
  return weight.substr(0, weight.rfind(".weight"));
}

}  // namespace

formats::ExportPlan plan_of_export(const Job& job, const formats::SourceModel& source,
                                   const formats::ExportRequest& request) {
  formats::QuantizationRequest quantization = job.quantization.grid;
  quantization.rescales_channels = job.quantization.transform->rescales_channels();
  quantization.calibrated = job.calibration.given() || !job.quantization.imatrix.empty();
  quantization.reference_rounding = !job.quantization.transform->rescales_channels() &&
                                    job.quantization.rounding->llama_cpp_types;
  return formats::plan_export(source.family, *source.weights, quantization, request);
}

std::uint64_t SizeProblem::least_bytes() const { return bytes_with(*this, false); }
std::uint64_t SizeProblem::most_bytes() const { return bytes_with(*this, true); }

void SizeProblem::keep_for_others(std::uint64_t bytes, std::uint64_t target) {
  if (target < least_bytes() + bytes)
    refuse(
        "E136",
        fmt::format("quantization.target_size is {}, but the file has at least {}: {} of tensors "
                    "with option {}, and {} of headers and tokenizer",
                    decimal_bytes_text(target), decimal_bytes_text(least_bytes() + bytes),
                    decimal_bytes_text(least_bytes()), options.front(), decimal_bytes_text(bytes)));
  budget_bytes = target - bytes;
}

SizeProblem size_problem(const Job& job, const formats::SourceModel& source) {
  check_can_choose(job);
  const AllocationSettings& settings = job.quantization.allocation;
  const bool in_gguf = format_of_job(job).has_block_types;
  std::vector<Option> options = planned_options(job, source);
  SizeProblem problem;
  problem.budget_bytes = budget_of(settings, options.front().plan);
  if (settings.options.empty()) keep_those_around(problem.budget_bytes, options);
  problem.parts = possible_parts(source.family, in_gguf);
  if (settings.sensitivity == AllocationSettings::Sensitivity::kLayer)
    std::erase_if(problem.parts, [](const SizedPart& part) { return part.block < 0; });
  keep_what_differs(options, problem.parts);
  if (problem.parts.empty())
    refuse("E135", "rules and keys fix every matrix of the job, so that none is left to choose");
  // Everything else is as the job says, whatever the options would make of it.
  const formats::ExportPlan own = plan_of_export(job, source, job.exports.front());
  problem.fixed_bytes = own.tensor_bytes;
  for (const SizedPart& part : problem.parts)
    for (const std::string& weight : part.weights) problem.fixed_bytes -= own.at(weight).bytes;
  for (Option& option : options) {
    problem.options.push_back(option.name);
    problem.plans_O.push_back(std::move(option.plan));
  }
  check_reach(job, problem);
  return problem;
}

std::vector<std::size_t> choose_options(const SizeProblem& problem, const Costs& cost_PO) {
  std::vector<std::size_t> option_P;
  const std::vector<Step> steps = steps_of(problem, cost_PO, option_P);
  std::uint64_t used = problem.fixed_bytes;
  for (std::size_t p = 0; p < problem.parts.size(); ++p)
    used += problem.parts[p].bytes_O[option_P[p]];
  std::uint64_t left = problem.budget_bytes > used ? problem.budget_bytes - used : 0;
  std::vector<bool> stopped_P(problem.parts.size(), false);
  for (const Step& step : steps) {
    if (stopped_P[step.part]) continue;
    const std::vector<std::uint64_t>& bytes_O = problem.parts[step.part].bytes_O;
    const std::uint64_t more = bytes_O[step.to] - bytes_O[option_P[step.part]];
    if (more > left) {
      stopped_P[step.part] = true;
      continue;
    }
    left -= more;
    option_P[step.part] = step.to;
  }
  while (exchange_one(problem, cost_PO, left, option_P)) {
  }
  return option_P;
}

Costs even_costs(const SizeProblem& problem) {
  Costs cost_PO;
  for (const SizedPart& part : problem.parts) {
    double weights = 0;
    for (const std::string& weight : part.weights) {
      const std::vector<Index>& shape = problem.plans_O.front().at(weight).tensor.shape;
      weights += static_cast<double>(shape[0]) * static_cast<double>(shape[1]);
    }
    std::vector<double>& cost_O = cost_PO.emplace_back();
    for (const std::uint64_t bytes : part.bytes_O)
      cost_O.push_back(weights * std::exp2(-2.0 * 8.0 * static_cast<double>(bytes) / weights));
  }
  return cost_PO;
}

std::vector<formats::ModuleRule> module_rules(const SizeProblem& problem,
                                              const std::vector<std::size_t>& option_P) {
  std::vector<std::pair<std::string, std::string>> options;
  for (std::size_t p = 0; p < problem.parts.size(); ++p)
    for (const std::string& weight : problem.parts[p].weights)
      options.emplace_back(module_of(weight), problem.options[option_P[p]]);
  std::vector<formats::ModuleRule> rules;
  for (const PatternRule& rule : grouped(options))
    rules.push_back({.match = "re:" + rule.pattern, .bits = bits_of(rule.option)});
  return rules;
}

std::vector<formats::TensorTypeRule> type_rules(const SizeProblem& problem,
                                                const std::vector<std::size_t>& option_P) {
  std::vector<std::pair<std::string, std::string>> options;
  for (std::size_t p = 0; p < problem.parts.size(); ++p)
    options.emplace_back(problem.parts[p].name, problem.options[option_P[p]]);
  std::vector<formats::TensorTypeRule> rules;
  for (const PatternRule& rule : grouped(options))
    rules.push_back({'^' + rule.pattern, rule.option});
  return rules;
}

Job with_choice(const Job& job, const SizeProblem& problem,
                const std::vector<std::size_t>& option_P) {
  Job chosen = job;
  chosen.quantization.allocation = {};
  if (format_of_job(job).has_block_types) {
    auto& own = chosen.exports.front().tensor_types;
    for (formats::TensorTypeRule& rule : type_rules(problem, option_P))
      own.push_back(std::move(rule));
  } else {
    auto& own = chosen.quantization.grid.rules;
    const std::vector<formats::ModuleRule> rules = module_rules(problem, option_P);
    own.insert(own.begin(), rules.begin(), rules.end());
  }
  return chosen;
}

}  // namespace calque::job
