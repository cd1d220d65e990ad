#include "mixers/experts/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/model/expert_tokens.h"

namespace calque::model {
namespace {

struct Expert {
  std::string folder;  // "mlp.experts.3"
  Index width = 0;
  Index index = -1;  // -1: the shared one
  Index count = 1;

  bool has_bias(const ExpertNames& names) const { return names.bias && index >= 0; }
};

// GGUF stacks the matrices of all routed experts.
std::string gguf_name(const char* tensor, const Expert& expert) {
  return std::string(tensor) + (expert.index < 0 ? "_shexp" : "_exps");
}

std::vector<LinearSpec> gate_and_up(const LayerTensors& tensors, const ExpertNames& names,
                                    const Expert& expert, Index hidden) {
  const LayerTensors::Shape shape{expert.width, hidden,      expert.has_bias(names), 0,
                                  expert.index, expert.count};
  std::vector<LinearSpec> both = {
      tensors.linear(expert.folder + "." + names.gate, gguf_name("ffn_gate", expert), shape),
      tensors.linear(expert.folder + "." + names.up, gguf_name("ffn_up", expert), shape)};
  if (expert.index < 0) return both;
  for (LinearSpec& linear : both)
    linear.weight.gguf_pair_name = tensors.gguf("ffn_gate_up_exps.weight");
  both.back().weight.gguf_pair_second = true;
  return both;
}

LinearSpec down(const LayerTensors& tensors, const ExpertNames& names, const Expert& expert,
                Index hidden) {
  const LayerTensors::Shape shape{hidden, expert.width, expert.has_bias(names),
                                  0,      expert.index, expert.count};
  return tensors.linear(expert.folder + "." + names.down, gguf_name("ffn_down", expert), shape);
}

std::string below(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "." + name;
}

void add_router(const LayerTensors& tensors, const ExpertNames& names, Index hidden,
                const std::optional<NormSpec>& norm, Experts& experts) {
  const Index count = experts.count;
  const LinearSpec router = tensors.linear(below(names.folder, names.router), "ffn_gate_inp",
                                           {count, hidden, names.router_bias});
  experts.router = router.weight;
  if (!names.router_norm.empty())
    experts.router_norm = {
        .epsilon = norm->epsilon,
        .weight = tensors.tensor(names.router_norm, "ffn_gate_inp.scale", {hidden})};
  if (!names.answer_scale.empty())
    experts.answer_scale = tensors.tensor(names.answer_scale, "ffn_down_exps.scale", {count});
  if (names.router_bias) experts.router_bias = router.bias.front();
  if (names.choice_bias.empty()) return;
  experts.choice_bias =
      tensors.tensor(below(names.folder, names.choice_bias), names.choice_bias_gguf, {count});
  if (names.choice_bias_is_row) experts.choice_bias->shape = {1, count};
}

// Every expert reads the norm's output, and so do the shared expert's gate and the router, unless
// that has a norm of its own.
std::vector<FoldSpec> fold_of_all(const SiteSpec& in, const std::vector<SiteSpec>& ins,
                                  const Experts& experts, const std::optional<NormSpec>& norm) {
  std::vector<FoldSpec> folds = norm_fold(in, norm);
  for (FoldSpec& fold : folds) {
    for (const TensorSpec& tensor : experts.unrounded())
      if (!experts.router_norm || tensor.name != experts.router.name)
        fold.consumers.push_back(tensor);
    for (const SiteSpec& site : ins)
      for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
  }
  return folds;
}

void show_all_tokens(BlockSpec& block, std::size_t index) {
  HalfSpec& half = block.halves[index];
  auto experts = std::make_shared<Experts>(static_cast<const Experts&>(*half.mixer));
  const auto site = [&](std::size_t i) {
    return block.sites.begin() + static_cast<std::ptrdiff_t>(half.first_site + i);
  };
  for (Index e = 0; e < experts->count; ++e) {
    const std::vector<LinearSpec>& readers = site(experts->expert_in(e))->readers;
    site(Experts::kIn)
        ->readers.insert(site(Experts::kIn)->readers.end(), readers.begin(), readers.end());
    site(experts->expert_out(e))->share = 1.0;
  }
  block.sites.erase(site(experts->expert_in(0)), site(experts->expert_out(0)));
  const auto gone = static_cast<std::size_t>(experts->count);
  half.site_count -= gone;
  for (std::size_t later = index + 1; later < block.halves.size(); ++later)
    block.halves[later].first_site -= gone;
  experts->all_tokens = true;
  half.mixer = std::move(experts);
}

}  // namespace

void show_all_tokens(FamilySpec& family) {
  for (BlockSpec& block : family.blocks)
    for (std::size_t i = 0; i < block.halves.size(); ++i)
      if (block.halves[i].mixer->kind() == Experts::kKind) show_all_tokens(block, i);
}

std::vector<TensorSpec> Experts::unrounded() const {
  std::vector<TensorSpec> result{router};
  if (shared_gate) result.push_back(*shared_gate);
  return result;
}

std::vector<TensorSpec> Experts::tensors() const {
  std::vector<TensorSpec> result = unrounded();
  if (router_norm) result.push_back(router_norm->weight);
  for (const std::optional<TensorSpec>* values : {&router_bias, &choice_bias, &answer_scale})
    if (*values) result.push_back(**values);
  return result;
}

Cost Experts::cost(double sequences, double length) const {
  return {.elements = sequences * length * 3 * static_cast<double>(routing.used * width)};
}

Index Experts::chunk_channels(bool staged) const {
  return (staged ? 1 : 2) * std::max(width, shared_width);
}

DetachedHalf experts_half(const LayerTensors& tensors, const ExpertNames& names, Experts experts,
                          Index hidden, const std::optional<NormSpec>& norm) {
  const Expert shared{below(names.folder, names.shared), experts.shared_width};
  add_router(tensors, names, hidden, norm, experts);
  SiteSpec in{.name = names.site_in, .channels = hidden, .from_norm = true};
  if (shared.width > 0) {
    in.readers = gate_and_up(tensors, names, shared, hidden);
    if (!names.shared_gate.empty())
      experts.shared_gate =
          tensors.linear(below(names.folder, names.shared_gate), "ffn_gate_inp_shexp", {1, hidden})
              .weight;
  }
  const double share =
      static_cast<double>(experts.routing.used) / static_cast<double>(experts.count);
  std::vector<SiteSpec> ins, outs;
  for (Index e = 0; e < experts.count; ++e) {
    const Expert expert{below(names.folder, fmt::format("experts.{}", e)), experts.width, e,
                        experts.count};
    ins.push_back(
        {.name = "expert_in", .expert = e, .channels = hidden, .share = share, .rows_of = in.name});
    ins.back().readers = gate_and_up(tensors, names, expert, hidden);
    outs.push_back({.name = "expert_out",
                    .expert = e,
                    .channels = expert.width,
                    .split_channels = true,
                    .share = share});
    outs.back().readers = {down(tensors, names, expert, hidden)};
  }

  DetachedHalf result;
  result.folds = fold_of_all(in, ins, experts, norm);
  if (!result.folds.empty()) {
    in.fold = 0;
    for (SiteSpec& site : ins) site.fold = 0;
  }
  // (up + 1) and a cut take no scale from up to down.
  for (std::size_t e = 0; e < outs.size() && !experts.activation.clamped; ++e) {
    outs[e].fold = static_cast<Index>(result.folds.size());
    result.folds.push_back(rows_fold(outs[e], ins[e].readers.back(), 0));
  }
  result.sites = {in};
  result.sites.insert(result.sites.end(), ins.begin(), ins.end());
  result.sites.insert(result.sites.end(), outs.begin(), outs.end());
  if (shared.width > 0) {
    SiteSpec out{.name = "mlp_out", .channels = shared.width, .split_channels = true};
    out.readers = {down(tensors, names, shared, hidden)};
    if (!experts.activation.clamped) {
      out.fold = static_cast<Index>(result.folds.size());
      result.folds.push_back(rows_fold(out, in.readers.back(), 0));
    }
    result.sites.push_back(std::move(out));
  }
  result.half.norm = norm;
  result.half.mixer = std::make_shared<Experts>(std::move(experts));
  return result;
}

}  // namespace calque::model
