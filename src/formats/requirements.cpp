#include "formats/requirements.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "formats/wording.h"

namespace calque::formats {
namespace {

bool is_symmetric(const quant::Grid& grid) { return grid.offset_kind == OffsetKind::kMiddleCode; }

std::string setting_text(const quant::Grid* grid) {
  if (grid == nullptr) return "not quantized";
  return fmt::format("{} bit, group_size {}, {}", grid->bits, grid->group_size,
                     is_symmetric(*grid) ? "sym" : "asym");
}

// What vLLM's loaders take from each container in 2026: the unified GPTQ loader symmetric 4 and 8
// bits alone, AWQ 4 bits, compressed-tensors 4 and 8 bits of both kinds.
bool loads(const std::string& format, const quant::Grid& grid) {
  if (format == "awq") return grid.bits == 4;
  const bool width = grid.bits == 4 || grid.bits == 8;
  return width && (format != "gptq" || is_symmetric(grid));
}

std::string loadable_text(const std::string& format) {
  if (format == "awq") return "vLLM loads AWQ folders of 4 bits only; write bits: 4";
  if (format == "gptq")
    return "vLLM loads GPTQ folders of 4 or 8 bits with sym: true only; write these, or export "
           "compressed-tensors (4 or 8 bits, sym or not) or awq (4 bits, not sym)";
  return "vLLM loads compressed-tensors folders of 4 or 8 bits only; write bits: 4 or bits: 8";
}

void check_settings(const model::FamilySpec& family, const ExportRequest& request,
                    const PlannedGrids& grids, Refusals& refusals) {
  constexpr Index kGroupSizes[] = {-1, 32, 64, 128};
  ModuleRefusals together(refusals);
  for (const model::BlockSpec& block : family.blocks)
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers) {
        const quant::Grid* grid = grids.of(linear);
        if (grid == nullptr) continue;
        if (!loads(request.format, *grid))
          together.add(
              "E146", "'require.vllm: true' is not possible: ",
              fmt::format(" would be {}. {}.", setting_text(grid), loadable_text(request.format)),
              linear);
        if (std::count(std::begin(kGroupSizes), std::end(kGroupSizes), grid->group_size) == 0)
          together.add("E146", "'require.vllm: true' is not possible: ",
                       fmt::format(" would have group_size {}; vLLM's kernels have 32, 64, 128 and "
                                   "-1 (one group a row).",
                                   grid->group_size),
                       linear);
      }
}

// "0-31", "0-2, 5"
std::string layers_text(const std::vector<Index>& layers) {
  std::vector<std::string> runs;
  for (std::size_t first = 0; first < layers.size();) {
    std::size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[last] + 1) ++last;
    runs.push_back(first == last ? fmt::format("{}", layers[first])
                                 : fmt::format("{}-{}", layers[first], layers[last]));
    first = last + 1;
  }
  return fmt::format("{} {}", layers.size() == 1 ? "layer" : "layers", fmt::join(runs, ", "));
}

using Linears = std::vector<const model::LinearSpec*>;

// The linears by their setting, in order of appearance.
std::vector<std::pair<std::string, Linears>> by_setting(const Linears& linears,
                                                        const PlannedGrids& grids) {
  std::vector<std::pair<std::string, Linears>> result;
  for (const model::LinearSpec* linear : linears) {
    const std::string setting = setting_text(grids.of(*linear));
    auto found = std::find_if(result.begin(), result.end(),
                              [&](const auto& entry) { return entry.first == setting; });
    if (found == result.end()) found = result.insert(result.end(), {setting, {}});
    found->second.push_back(linear);
  }
  return result;
}

std::vector<std::string> roles_of(const Linears& linears) {
  std::vector<std::string> roles;
  for (const model::LinearSpec* linear : linears) roles.push_back(linear->role);
  return roles;
}

// "model.layers.3.mlp.experts.0.up_proj" -> "experts.0.up_proj"
std::string below_block(const std::string& name) {
  const std::size_t at = name.find("experts.");
  return at == std::string::npos ? name : name.substr(at);
}

// "q_proj: 8 bit, group_size 128, sym; k_proj, v_proj: 4 bit, ..."; of experts how many, and one.
std::string difference(const Linears& linears, const PlannedGrids& grids, bool experts) {
  std::vector<std::string> parts;
  for (const auto& [setting, members] : by_setting(linears, grids)) {
    const std::string who = experts
                                ? fmt::format("{} of {} matrices ({}, ...)", members.size(),
                                              linears.size(), below_block(members.front()->name))
                                : fmt::format("{}", fmt::join(roles_of(members), ", "));
    parts.push_back(fmt::format("{}: {}", who, setting));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

// Parts of a block that vLLM loads into one tensor, and the layers in which they differ.
class FusedParts {
 public:
  explicit FusedParts(const PlannedGrids& grids) : grids_(grids) {}

  void look_at(const model::BlockSpec& block) {
    Linears experts;
    for (const model::SiteSpec& site : block.sites) {
      Linears parts;
      for (const model::LinearSpec& linear : site.readers) parts.push_back(&linear);
      if (site.expert >= 0)
        experts.insert(experts.end(), parts.begin(), parts.end());
      else
        compare(block.layer, parts, false);
    }
    compare(block.layer, experts, true);
  }

  void report(Refusals& refusals) const {
    for (const auto& [text, layers] : layers_of_)
      refusals.add("E142", fmt::format("in {}: {}", layers_text(layers), text));
  }

 private:
  void compare(Index layer, const Linears& parts, bool experts) {
    if (by_setting(parts, grids_).size() < 2) return;
    const std::string what =
        experts ? "the experts of a layer" : fmt::format("{}", fmt::join(roles_of(parts), ", "));
    const std::string advice = experts ? "Give all of them one rule ('*.experts.*')"
                                       : fmt::format("Give one rule to all ('re:.*\\.({})')",
                                                     fmt::join(roles_of(parts), "|"));
    layers_of_[fmt::format(
                   "{}. vLLM fuses {} and needs one setting. {}, or leave out require.vllm.",
                   difference(parts, grids_, experts), what, advice)]
        .push_back(layer);
  }

  const PlannedGrids& grids_;
  std::map<std::string, std::vector<Index>> layers_of_;
};

void check_fused_parts(const model::FamilySpec& family, const PlannedGrids& grids,
                       Refusals& refusals) {
  FusedParts fused(grids);
  for (const model::BlockSpec& block : family.blocks) fused.look_at(block);
  fused.report(refusals);
}

void check_experts(const model::FamilySpec& family, const ExportRequest& request,
                   const PlannedGrids& grids, Refusals& refusals) {
  bool any = false;
  for (const model::BlockSpec& block : family.blocks)
    for (const model::ExpertsSpec& experts : block.experts) {
      any = true;
      if (grids.of(experts.router.name) != nullptr)
        refusals.add("E144",
                     fmt::format("'{}' is a router; vLLM loads it unquantized only. Skip it "
                                 "with a rule.",
                                 experts.router.name));
    }
  if (any && request.desc_act)
    refusals.add("E144",
                 "'require.vllm: true' is not possible: vLLM's kernels for experts know no "
                 "activation-ordered groups. Write desc_act: false.");
}

}  // namespace

PlannedGrids::PlannedGrids(const std::vector<TensorPlan>& tensors) {
  for (const TensorPlan& tensor : tensors)
    if (tensor.grid) quantized_.push_back(&tensor);
  std::sort(quantized_.begin(), quantized_.end(), [](const TensorPlan* a, const TensorPlan* b) {
    return a->tensor.name < b->tensor.name;
  });
}

const quant::Grid* PlannedGrids::of(const std::string& tensor_name) const {
  const auto found = std::lower_bound(
      quantized_.begin(), quantized_.end(), tensor_name,
      [](const TensorPlan* plan, const std::string& name) { return plan->tensor.name < name; });
  if (found == quantized_.end() || (*found)->tensor.name != tensor_name) return nullptr;
  return &*(*found)->grid;
}

void ModuleRefusals::add(const std::string& code, const std::string& before,
                         const std::string& after, const model::LinearSpec& linear) {
  for (Entry& entry : entries_)
    if (entry.code == code && entry.before == before && entry.after == after) {
      entry.linears.push_back(&linear);
      return;
    }
  entries_.push_back({code, before, after, {&linear}});
}

ModuleRefusals::~ModuleRefusals() {
  for (const Entry& entry : entries_)
    refusals_.add(entry.code, entry.before + module_pattern(entry.linears) + entry.after);
}

void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals) {
  if (!request.require.any()) return;
  if (request.format == "gguf") {
    refusals.add(
        "E145",
        "'require' does not apply to gguf: vLLM's GGUF loader is experimental and gives no "
        "rules to check. Leave out 'require', or export gptq, awq or compressed-tensors.");
    return;
  }
  const PlannedGrids grids(tensors);
  check_settings(family, request, grids, refusals);
  check_fused_parts(family, grids, refusals);
  check_experts(family, request, grids, refusals);
  check_rank_shapes(family, request, grids, refusals);
}

}  // namespace calque::formats
