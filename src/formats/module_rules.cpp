#include "formats/module_rules.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "formats/module_patterns.h"
#include "formats/packed_format.h"

namespace calque::formats {
namespace {

constexpr std::string_view kHead = "lm_head";

struct Candidate {
  std::string name;
  ModuleSettings settings;
  bool skip = false;
};

std::vector<Candidate> candidates_of(const model::FamilySpec& family,
                                     const QuantizationRequest& request, bool rounds_embedding) {
  const ModuleSettings all{request.bits,       request.group_size,   request.sym,   request.number,
                           request.scale_rows, request.coded_scales, request.inputs};
  std::vector<Candidate> candidates;
  for (const model::LinearSpec& linear : family.linears())
    candidates.push_back({linear.name, all, /*skip=*/!linear.rounded});
  if (rounds_embedding) candidates.push_back({embedding_linear(family).name, all, false});
  if (!rounds_embedding || !family.lm_head.empty())
    candidates.push_back({std::string(kHead), all, /*skip=*/!rounds_embedding});
  return candidates;
}

void patch(Candidate& candidate, const ModuleRule& rule) {
  candidate.settings.bits = rule.bits.value_or(candidate.settings.bits);
  candidate.settings.group_size = rule.group_size.value_or(candidate.settings.group_size);
  candidate.settings.sym = rule.sym.value_or(candidate.settings.sym);
  candidate.skip = rule.skip.value_or(candidate.skip);
}

// A scheme of floating-point numbers has no other widths and groups.
void check_patch(const ModuleRule& rule, const QuantizationRequest& request, Refusals& refusals) {
  if (!request.number || !(rule.bits || rule.group_size || rule.sym)) return;
  refusals.add("E153",
               fmt::format("the rule for '{}' sets {}, but the scheme of the export stores {} "
                           "numbers. Leave the key out, or skip these modules (skip: true).",
                           rule.match,
                           rule.bits         ? "bits"
                           : rule.group_size ? "group_size"
                                             : "sym",
                           info_of(*request.number).title));
}

// Returns true if the rule matched a module.
bool apply(const ModuleRule& rule, std::vector<Candidate>& candidates) {
  const ModuleMatcher matcher(rule.match);
  bool applied = false;
  for (Candidate& candidate : candidates) {
    if (!matcher.matches(candidate.name)) continue;
    patch(candidate, rule);
    applied = true;
  }
  return applied;
}

void refuse_unmatched(const ModuleRule& rule, const std::vector<Candidate>& candidates,
                      Refusals& refusals) {
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates) names.push_back(candidate.name);
  refusals.add("E151", fmt::format("'{}' matches none of {} modules. Nearest: '{}'. "
                                   "(allow_no_match: true if intended)",
                                   rule.match, names.size(), nearest_module(rule.match, names)));
}

}  // namespace

SettingsOfModule resolve_rules(const model::FamilySpec& family, const QuantizationRequest& request,
                               bool rounds_embedding, Refusals& refusals) {
  std::vector<Candidate> candidates = candidates_of(family, request, rounds_embedding);
  for (const ModuleRule& rule : request.rules) {
    check_patch(rule, request, refusals);
    try {
      if (!apply(rule, candidates) && !rule.allow_no_match)
        refuse_unmatched(rule, candidates, refusals);
    } catch (const Error& error) {
      refusals.add(error.code(), error.what());
    }
  }
  SettingsOfModule result;
  for (const Candidate& candidate : candidates)
    if (!candidate.skip) result.emplace(candidate.name, candidate.settings);
  return result;
}

model::LinearSpec embedding_linear(const model::FamilySpec& family) {
  const std::string name = module_of(family.embedding.name);
  return {.name = name, .role = "embed_tokens", .weight = family.embedding};
}

std::vector<model::LinearSpec> all_linears(const model::FamilySpec& family) {
  std::vector<model::LinearSpec> linears = family.linears();
  for (const model::TensorSpec& head : family.lm_head)
    linears.push_back({std::string(kHead), std::string(kHead), head, {}});
  return linears;
}

}  // namespace calque::formats
