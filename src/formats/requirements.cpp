#include "formats/requirements.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "formats/module_patterns.h"
#include "formats/packed_format.h"

namespace calque::formats {
namespace {

// Finds the planned grid of a linear; null if it stays unquantized.
class PlannedGrids {
 public:
  explicit PlannedGrids(const std::vector<TensorPlan>& tensors);
  const quant::Grid* of(const std::string& tensor_name) const;
  const quant::Grid* of(const model::LinearSpec& linear) const { return of(linear.weight.name); }

 private:
  std::vector<const TensorPlan*> quantized_;  // by name
};

// Combines refusals that differ only in the module: "<before><modules><after>".
class ModuleRefusals {
 public:
  explicit ModuleRefusals(Refusals& refusals) : refusals_(refusals) {}
  ~ModuleRefusals();
  ModuleRefusals(const ModuleRefusals&) = delete;
  ModuleRefusals& operator=(const ModuleRefusals&) = delete;

  void add(const std::string& code, const std::string& before, const std::string& after,
           const model::LinearSpec& linear);

 private:
  struct Entry {
    std::string code;
    std::string before;
    std::string after;
    std::vector<const model::LinearSpec*> linears;
  };
  Refusals& refusals_;
  std::vector<Entry> entries_;
};

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

bool is_symmetric(const quant::Grid& grid) { return grid.offset_kind == OffsetKind::kMiddleCode; }

std::string setting_text(const quant::Grid* grid) {
  if (grid == nullptr) return "not quantized";
  if (grid->number) return number_text(*grid->number, grid->group_size, grid->scale_rows);
  return fmt::format("{} bit, group_size {}, {}", grid->bits, grid->group_size,
                     is_symmetric(*grid) ? "sym" : "asym");
}

void check_settings(const model::FamilySpec& family, const ExportRequest& request,
                    const PlannedGrids& grids, Refusals& refusals) {
  constexpr Index kSizes[] = {-1, 32, 64, 128};
  const PackedFormat& packed = *format_of(request).packed;
  ModuleRefusals together(refusals);
  for (const model::BlockSpec& block : family.blocks)
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers) {
        const quant::Grid* grid = grids.of(linear);
        if (grid == nullptr) continue;
        if (!packed.vllm_loads(*grid))
          together.add("E146", "'require.vllm: true' is not possible: ",
                       fmt::format(" would be {}. {}.", setting_text(grid), packed.vllm_advice),
                       linear);
        const bool fixed = grid->coded_scales().has_value();  // by the scheme
        if (!fixed && std::count(std::begin(kSizes), std::end(kSizes), grid->group_size) == 0)
          together.add("E146", "'require.vllm: true' is not possible: ",
                       fmt::format(" would have group_size {}; vLLM's kernels have 32, 64, 128 and "
                                   "-1 (one group per row).",
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

// Groups the linears by setting, in order of appearance.
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

// Parts of a block that vLLM loads into one tensor, and the layers in which they differ. The
// readers of a site are one, but those that are usually left alone are another.
class FusedParts {
 public:
  explicit FusedParts(const PlannedGrids& grids) : grids_(grids) {}

  void look_at(const model::BlockSpec& block) {
    Linears experts;
    for (const model::SiteSpec& site : block.sites) {
      Linears parts, others;
      for (const model::LinearSpec& linear : site.readers)
        (linear.rounded ? parts : others).push_back(&linear);
      compare(block.layer, others, false);
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
    for (const model::TensorSpec& router : block.unrounded()) {
      any = true;
      if (grids.of(router.name) != nullptr)
        refusals.add("E144",
                     fmt::format("'{}' is a router; vLLM loads it unquantized only. Skip it "
                                 "with a rule.",
                                 router.name));
    }
  if (any && request.desc_act)
    refusals.add("E144",
                 "'require.vllm: true' is not possible: vLLM's kernels for experts know no "
                 "activation-ordered groups. Write desc_act: false.");
}

// transformers reads compressed-tensors folders by way of that library, and the experts of a layer
// as one tensor.
void check_transformers(const model::FamilySpec& family, const ExportRequest& request,
                        const PlannedGrids& grids, Refusals& refusals) {
  if (request.format != "compressed-tensors") return;
  ModuleRefusals together(refusals);
  for (const model::BlockSpec& block : family.blocks) {
    std::set<int> expert_bits;
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers) {
        const quant::Grid* grid = grids.of(linear);
        if (site.expert >= 0) expert_bits.insert(grid == nullptr ? 0 : grid->bits);
        if (grid != nullptr && !is_symmetric(*grid))
          together.add("E147", "'require.transformers: true' is not possible: ",
                       fmt::format(" would have zero points. {}", kZeroPointsInTransformers),
                       linear);
      }
    if (expert_bits.size() > 1)
      refusals.add("E147", fmt::format("'require.transformers: true' is not possible: the experts "
                                       "of layer {} differ in bits. {}",
                                       block.layer, kExpertsInTransformers));
  }
}

// ---- Shapes on the ranks of tensor parallelism

// The shapes that the kernel of a product takes.
struct Kernel {
  std::string_view name;
  Index outputs, inputs;  // multiples
  bool either = false;    // or the other way round
  bool each = false;      // every part of a fused matrix, but the last, not only their sum
  std::string_view needs;

  bool fits(Index N, Index K) const {
    return (N % outputs == 0 && K % inputs == 0) || (either && N % inputs == 0 && K % outputs == 0);
  }
};

// Newer versions of vLLM pad smaller shapes with zeros; a plan that needs this is refused, because
// older versions and SGLang do not load it.
constexpr Kernel kMarlin = {
    "Marlin",
    64,
    128,
    true,
    false,
    "Marlin needs outputs in multiples of 64 and inputs in multiples of 128, or 128 and 64"};
constexpr Kernel kEightBits = {"8-bit products",
                               16,
                               16,
                               false,
                               false,
                               "products of 8 bits need outputs and inputs in multiples of 16"};
constexpr Kernel kGroupsOfFloats = {
    "products of FP4 and MXFP8",
    32,
    32,
    false,
    false,
    "products of FP4 and MXFP8 need outputs and inputs in multiples of 32"};
constexpr Kernel kBlocks = {
    "blocks of 128", 128,  128,
    false,           true, "blocks of 128 x 128 need inputs and outputs in multiples of 128"};

// The kernel of the first rounded linear; a scheme has one.
const Kernel& kernel_of(const std::vector<TensorPlan>& tensors) {
  for (const TensorPlan& tensor : tensors) {
    if (!tensor.grid || !tensor.in_block_linear) continue;
    const quant::Grid& grid = *tensor.grid;
    if (grid.scale_rows > 1) return kBlocks;
    if (grid.coded_scales()) return kGroupsOfFloats;
    return grid.number || (tensor.inputs && grid.bits == 8 && grid.group_size < 0) ? kEightBits
                                                                                   : kMarlin;
  }
  return kMarlin;
}

bool whole_groups(Index K, Index group_size, Index ranks) {
  return K % ranks == 0 && (group_size < 0 || K / ranks % group_size == 0);
}

std::string list(const std::vector<Index>& values) {
  return fmt::format("{}", fmt::join(values, ", "));
}

std::string not_possible(const std::vector<Index>& ranks) {
  return ranks == std::vector<Index>{1}
             ? "'require.vllm: true' is not possible: "
             : fmt::format("'require.tensor_parallel: {}' is not possible: ", list(ranks));
}

class RankShapes {
 public:
  RankShapes(const model::FamilySpec& family, const ExportRequest& request,
             const std::vector<TensorPlan>& tensors, const PlannedGrids& grids, Refusals& refusals)
      : config_(family.config),
        kernel_(kernel_of(tensors)),
        request_(request),
        grids_(grids),
        refusals_(refusals),
        together_(refusals) {
    std::set<Index> sizes(request.require.tensor_parallel.begin(),
                          request.require.tensor_parallel.end());
    sizes.insert(1);
    sizes_.assign(sizes.begin(), sizes.end());
  }

  void check(const model::FamilySpec& family) {
    check_sizes();
    check_heads();
    for (const model::BlockSpec& block : family.blocks)
      for (const model::SiteSpec& site : block.sites) check_site(site);
  }

 private:
  std::vector<Index> sizes_where(const std::function<bool(Index)>& failed) const {
    std::vector<Index> result;
    for (const Index ranks : sizes_)
      if (failed(ranks)) result.push_back(ranks);
    return result;
  }

  void check_sizes() {
    if (sizes_.front() < 1)
      refusals_.add("E141", fmt::format("'require.tensor_parallel' holds {}; sizes start at 1.",
                                        sizes_.front()));
    sizes_.erase(std::remove_if(sizes_.begin(), sizes_.end(), [](Index n) { return n < 1; }),
                 sizes_.end());
    if (request_.desc_act && sizes_.back() > 1)
      refusals_.add("E141", fmt::format("'require.tensor_parallel: {}' is not possible with "
                                        "desc_act: activation-ordered groups cross the ranks. "
                                        "Write desc_act: false.",
                                        sizes_.back()));
  }

  // K/V heads that do not divide are replicated, if every rank still reads whole heads; a delta
  // net's are not.
  bool heads_divide(Index ranks) const {
    return config_.num_heads % ranks == 0 && config_.delta_net.key_heads % ranks == 0 &&
           (config_.num_kv_heads % ranks == 0 || ranks % config_.num_kv_heads == 0);
  }

  void check_heads() {
    const std::vector<Index> failed =
        sizes_where([&](Index ranks) { return !heads_divide(ranks); });
    if (failed.empty()) return;
    std::vector<Index> good;
    for (Index ranks = 1; ranks <= std::min<Index>(config_.num_heads, 64); ++ranks)
      if (heads_divide(ranks)) good.push_back(ranks);
    const std::string of_nets =
        config_.delta_net_layers.empty()
            ? ""
            : fmt::format(" (and {} of the delta nets)", config_.delta_net.key_heads);
    refusals_.add("E141", fmt::format("{}{} attention heads and {} key/value heads{} cannot be "
                                      "divided evenly. Sizes that work: {}.",
                                      not_possible(failed), config_.num_heads, config_.num_kv_heads,
                                      of_nets, list(good)));
  }

  void check_site(const model::SiteSpec& site) {
    if (site.readers.empty() || grids_.of(site.readers.front()) == nullptr) return;
    const quant::Grid& grid = *grids_.of(site.readers.front());
    const model::LinearSpec& first = site.readers.front();
    if (site.expert >= 0)
      return site.split_channels ? check_expert_out(first, grid) : check_expert_in(site);
    return site.split_channels ? check_rows(first, grid) : check_columns(site);
  }

  // Outputs of one rank, including K/V heads that it holds a copy of.
  static Index rank_outputs(const model::LinearSpec& linear, Index ranks) {
    if (linear.key_value && ranks > linear.heads) return linear.out_features() / linear.heads;
    return linear.out_features() % ranks == 0 ? linear.out_features() / ranks : -1;
  }

  // The kernel treats all readers of a site that are usually rounded as one matrix.
  Index fused_outputs(const model::SiteSpec& site, Index ranks) const {
    Index sum = 0;
    for (const model::LinearSpec& linear : site.readers) {
      if (!linear.rounded) continue;
      const Index outputs = rank_outputs(linear, ranks);
      if (outputs < 0) return -1;
      // A part that ends inside a block takes all of them with it.
      if (kernel_.each && sum % kernel_.outputs != 0) return sum;
      sum += outputs;
    }
    return sum;
  }

  // True if the heads rule out this size, which has already been reported.
  bool settled(const model::SiteSpec& site, Index ranks) const {
    return site.readers.front().heads > 0 && !heads_divide(ranks);
  }

  void check_columns(const model::SiteSpec& site) {
    const auto cut = [&](Index ranks) {
      const Index N = fused_outputs(site, ranks);
      return ranks > 1 && !settled(site, ranks) &&
             (N < 0 || N % std::min(kernel_.outputs, kernel_.inputs) != 0);
    };
    const std::vector<Index> unequal = sizes_where(cut);
    for (const model::LinearSpec& linear : site.readers)
      if (!unequal.empty())
        together_.add(
            "E141", not_possible(unequal),
            fmt::format(" with {} outputs; every rank needs a multiple of {} of the fused "
                        "columns ({}).",
                        linear.out_features(), std::min(kernel_.outputs, kernel_.inputs),
                        kernel_.name),
            linear);
    const std::vector<Index> odd = sizes_where([&](Index ranks) {
      return !cut(ranks) && !settled(site, ranks) &&
             !kernel_.fits(fused_outputs(site, ranks), site.channels);
    });
    if (odd.empty()) return;
    for (const model::LinearSpec& linear : site.readers)
      add_shape(linear, odd, fused_outputs(site, odd.front()), site.channels);
  }

  void check_rows(const model::LinearSpec& linear, const quant::Grid& grid) {
    const Index K = linear.in_features();
    const std::vector<Index> cut =
        sizes_where([&](Index ranks) { return !whole_groups(K, grid.group_size, ranks); });
    if (!cut.empty())
      together_.add("E141", not_possible(cut),
                    fmt::format(" has {} inputs{}. {}", K, groups_text(K, grid.group_size, cut),
                                advice(linear, cut)),
                    linear);
    const std::vector<Index> odd = sizes_where([&](Index ranks) {
      return whole_groups(K, grid.group_size, ranks) &&
             !kernel_.fits(linear.out_features(), K / ranks);
    });
    if (!odd.empty()) add_shape(linear, odd, linear.out_features(), K / odd.front());
  }

  static std::string groups_text(Index K, Index group_size, const std::vector<Index>& ranks) {
    if (group_size < 0 || K % group_size != 0)
      return fmt::format(", which {} ranks cannot share in whole groups", list(ranks));
    return fmt::format(" = {} groups of {}, and {} is not a multiple of {}", K / group_size,
                       group_size, K / group_size, list(ranks));
  }

  // "group_size 64 gives TP 1, 2.": group sizes that allow more of the failed sizes.
  std::string advice(const model::LinearSpec& linear, const std::vector<Index>& failed) const {
    if (&kernel_ != &kMarlin) return "Leave out these sizes.";
    std::set<Index> sizes = {1, 2, 4, 8};
    sizes.insert(failed.begin(), failed.end());
    std::vector<std::string> parts;
    std::vector<Index> before = {1};
    for (const Index g : {Index{128}, Index{64}, Index{32}, Index{-1}}) {
      std::vector<Index> good;
      for (const Index ranks : sizes)
        if (whole_groups(linear.in_features(), g, ranks) &&
            kernel_.fits(linear.out_features(), linear.in_features() / ranks))
          good.push_back(ranks);
      const bool helps = std::any_of(failed.begin(), failed.end(), [&](Index ranks) {
        return std::count(good.begin(), good.end(), ranks) > 0;
      });
      if (!helps || good == before) continue;
      parts.push_back(
          fmt::format("{}{} gives TP {}", parts.empty() ? "group_size " : "", g, list(good)));
      before = good;
    }
    if (parts.empty()) return "No group size allows it.";
    return fmt::format("{}.", fmt::join(parts, "; "));
  }

  void add_shape(const model::LinearSpec& linear, const std::vector<Index>& ranks, Index N,
                 Index K) {
    together_.add(
        "E143", not_possible(ranks),
        fmt::format(" would be [{}, {}] on a rank of {}; {}. Skip the module with a rule, "
                    "or leave out this requirement.",
                    N, K, ranks.front(), kernel_.needs),
        linear);
  }

  void check_expert_in(const model::SiteSpec& site) {
    if (site.channels % 128 == 0) return;
    for (const model::LinearSpec& linear : site.readers)
      together_.add(
          "E144", not_possible({1}),
          fmt::format(" has {} inputs; vLLM's kernel for experts needs a multiple of 128.",
                      site.channels),
          linear);
  }

  void check_expert_out(const model::LinearSpec& linear, const quant::Grid& grid) {
    const Index K = linear.in_features();
    const Index tile = std::max<Index>(64, grid.group_size);
    const std::vector<Index> failed =
        sizes_where([&](Index ranks) { return K % ranks != 0 || K / ranks % tile != 0; });
    if (failed.empty()) return;
    together_.add("E144", not_possible(failed),
                  fmt::format(" has {} inputs; each rank's share of an expert's width must be a "
                              "multiple of {}.",
                              K, tile),
                  linear);
  }

  const model::ModelConfig& config_;
  const Kernel& kernel_;
  const ExportRequest& request_;
  const PlannedGrids& grids_;
  Refusals& refusals_;
  ModuleRefusals together_;
  std::vector<Index> sizes_;
};

}  // namespace

void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals) {
  if (!request.require.any()) return;
  const PackedFormat* packed = format_of(request).packed;
  if (packed != nullptr && packed->notes != nullptr) {
    refusals.add("E145",
                 fmt::format("'require' does not apply to {}: vLLM and transformers do not load "
                             "such folders, and what does is checked in any case. Leave out "
                             "'require', or export gptq, awq or compressed-tensors.",
                             request.format));
    return;
  }
  if (packed == nullptr) {
    refusals.add(
        "E145",
        "'require' does not apply to gguf: vLLM's GGUF loader is experimental and gives no "
        "rules to check. Leave out 'require', or export gptq, awq or compressed-tensors.");
    return;
  }
  if (std::string remark = mxfp4_remark(tensors); !remark.empty())
    refusals.add(request.require.wants_vllm() ? "E146" : "E147",
                 "'require' is not possible: " + remark);
  const PlannedGrids grids(tensors);
  if (request.require.transformers) {
    check_transformers(family, request, grids, refusals);
    if (std::string remark = stacked_experts_remark(family, request, tensors); !remark.empty())
      refusals.add("E147", "'require.transformers: true' is not possible: " + remark);
  }
  if (!request.require.wants_vllm()) return;
  check_settings(family, request, grids, refusals);
  check_fused_parts(family, grids, refusals);
  check_experts(family, request, grids, refusals);
  RankShapes(family, request, tensors, grids, refusals).check(family);
}

std::string mxfp4_remark(const std::vector<TensorPlan>& tensors) {
  const auto kept = std::count_if(tensors.begin(), tensors.end(), [](const TensorPlan& tensor) {
    return tensor.holds_parts && tensor.tensor.name.ends_with("_blocks");
  });
  if (kept == 0) return "";
  return fmt::format(
      "{} tensors of experts stay in MXFP4 (*_blocks, *_scales), bit for bit. calque reads such a "
      "folder; vLLM and transformers do not, as quantization_config names one method. For them "
      "quantize the experts, too; gguf keeps MXFP4 where a tensor's type is that (type: MXFP4_MOE)",
      kept);
}

std::string stacked_experts_remark(const model::FamilySpec& family, const ExportRequest& request,
                                   const std::vector<TensorPlan>& tensors) {
  if (request.format != "compressed-tensors" ||
      family.config.stacked_experts == model::StackedExperts::kNone)
    return "";
  const PlannedGrids grids(tensors);
  for (const model::BlockSpec& block : family.blocks)
    for (const model::SiteSpec& site : block.sites)
      for (const model::LinearSpec& linear : site.readers)
        if (site.expert >= 0 && grids.of(linear) != nullptr)
          return fmt::format(
              "transformers loads the experts of {} only unquantized, as one tensor a layer. For "
              "transformers skip them with a rule ('*.experts.*')",
              family.config.architecture);
  return "";
}

std::string rank_remark(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors) {
  const PlannedGrids grids(tensors);
  std::vector<std::string> fit, others;
  for (const Index ranks : {1, 2, 4, 8}) {
    ExportRequest on_ranks = request;
    on_ranks.require.tensor_parallel = {ranks};
    Refusals refusals;
    RankShapes(family, on_ranks, tensors, grids, refusals).check(family);
    (refusals.empty() ? fit : others).push_back(std::to_string(ranks));
  }
  if (others.empty() || fit.empty() || fit.front() != "1") return "";
  return fmt::format("tensor parallelism: the shapes allow {} of 1, 2, 4 and 8 ranks",
                     fmt::join(fit, ", "));
}

}  // namespace calque::formats
