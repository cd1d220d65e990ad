#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "formats/requirements.h"
#include "formats/wording.h"

namespace calque::formats {
namespace {

// Marlin's tiles: 64 columns by 128 inputs, or the other way round. Newer versions of vLLM fill up
// smaller shapes with zeros; a plan that needs that is refused, because older ones and SGLang do
// not load it.
bool fits_marlin(Index N, Index K) {
  return (N % 64 == 0 && K % 128 == 0) || (N % 128 == 0 && K % 64 == 0);
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
             const PlannedGrids& grids, Refusals& refusals)
      : config_(family.config),
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

  // K/V heads that do not divide are replicated, if every rank still reads whole heads.
  bool heads_divide(Index ranks) const {
    return config_.num_heads % ranks == 0 &&
           (config_.num_kv_heads % ranks == 0 || ranks % config_.num_kv_heads == 0);
  }

  void check_heads() {
    const std::vector<Index> failed =
        sizes_where([&](Index ranks) { return !heads_divide(ranks); });
    if (failed.empty()) return;
    std::vector<Index> good;
    for (Index ranks = 1; ranks <= std::min<Index>(config_.num_heads, 64); ++ranks)
      if (heads_divide(ranks)) good.push_back(ranks);
    refusals_.add("E141", fmt::format("{}{} attention heads and {} key/value heads cannot be "
                                      "shared out evenly. Sizes that work: {}.",
                                      not_possible(failed), config_.num_heads, config_.num_kv_heads,
                                      list(good)));
  }

  void check_site(const model::SiteSpec& site) {
    if (site.readers.empty() || grids_.of(site.readers.front()) == nullptr) return;
    const quant::Grid& grid = *grids_.of(site.readers.front());
    switch (site.kind) {
      case model::SiteKind::kAttnIn:
      case model::SiteKind::kMlpIn:
        return check_columns(site);
      case model::SiteKind::kAttnOut:
      case model::SiteKind::kMlpOut:
        return check_rows(site.readers.front(), grid);
      case model::SiteKind::kExpertIn:
        return check_expert_in(site);
      case model::SiteKind::kExpertOut:
        return check_expert_out(site.readers.front(), grid);
    }
  }

  // Outputs of a rank, with the K/V heads that it holds a copy of.
  Index rank_outputs(const model::SiteSpec& site, const model::LinearSpec& linear,
                     Index ranks) const {
    const bool kv = site.kind == model::SiteKind::kAttnIn &&
                    linear.out_features() == config_.num_kv_heads * config_.head_dim;
    if (kv && ranks > config_.num_kv_heads) return config_.head_dim;
    return linear.out_features() % ranks == 0 ? linear.out_features() / ranks : -1;
  }

  // All readers of a site are one matrix to the kernel.
  Index fused_outputs(const model::SiteSpec& site, Index ranks) const {
    Index sum = 0;
    for (const model::LinearSpec& linear : site.readers) {
      const Index outputs = rank_outputs(site, linear, ranks);
      if (outputs < 0) return -1;
      sum += outputs;
    }
    return sum;
  }

  // Sizes that the heads rule out have been named already.
  bool settled(const model::SiteSpec& site, Index ranks) const {
    return site.kind == model::SiteKind::kAttnIn && !heads_divide(ranks);
  }

  void check_columns(const model::SiteSpec& site) {
    const auto cut = [&](Index ranks) {
      const Index N = fused_outputs(site, ranks);
      return ranks > 1 && !settled(site, ranks) && (N < 0 || N % 64 != 0);
    };
    const std::vector<Index> unequal = sizes_where(cut);
    for (const model::LinearSpec& linear : site.readers)
      if (!unequal.empty())
        together_.add(
            "E141", not_possible(unequal),
            fmt::format(" with {} outputs; every rank needs a multiple of 64 of the fused "
                        "columns (Marlin).",
                        linear.out_features()),
            linear);
    const std::vector<Index> odd = sizes_where([&](Index ranks) {
      return !cut(ranks) && !settled(site, ranks) &&
             !fits_marlin(fused_outputs(site, ranks), site.channels);
    });
    if (odd.empty()) return;
    for (const model::LinearSpec& linear : site.readers)
      add_marlin(linear, odd, fused_outputs(site, odd.front()), site.channels);
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
             !fits_marlin(linear.out_features(), K / ranks);
    });
    if (!odd.empty()) add_marlin(linear, odd, linear.out_features(), K / odd.front());
  }

  static std::string groups_text(Index K, Index group_size, const std::vector<Index>& ranks) {
    if (group_size < 0 || K % group_size != 0)
      return fmt::format(", which {} ranks cannot share in whole groups", list(ranks));
    return fmt::format(" = {} groups of {}, and {} is no multiple of {}", K / group_size,
                       group_size, K / group_size, list(ranks));
  }

  // "group_size 64 gives TP 1, 2.": the sizes that allow more of what failed.
  static std::string advice(const model::LinearSpec& linear, const std::vector<Index>& failed) {
    std::set<Index> sizes = {1, 2, 4, 8};
    sizes.insert(failed.begin(), failed.end());
    std::vector<std::string> parts;
    std::vector<Index> before = {1};
    for (const Index g : {Index{128}, Index{64}, Index{32}, Index{-1}}) {
      std::vector<Index> good;
      for (const Index ranks : sizes)
        if (whole_groups(linear.in_features(), g, ranks) &&
            fits_marlin(linear.out_features(), linear.in_features() / ranks))
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

  void add_marlin(const model::LinearSpec& linear, const std::vector<Index>& ranks, Index N,
                  Index K) {
    together_.add("E143", not_possible(ranks),
                  fmt::format(" would be [{}, {}] on a rank of {}; Marlin needs outputs in "
                              "multiples of 64 and inputs in multiples of 128, or 128 and 64. "
                              "Skip the module with a rule, or leave out this requirement.",
                              N, K, ranks.front()),
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
  const ExportRequest& request_;
  const PlannedGrids& grids_;
  Refusals& refusals_;
  ModuleRefusals together_;
  std::vector<Index> sizes_;
};

}  // namespace

void check_rank_shapes(const model::FamilySpec& family, const ExportRequest& request,
                       const PlannedGrids& grids, Refusals& refusals) {
  RankShapes(family, request, grids, refusals).check(family);
}

}  // namespace calque::formats
