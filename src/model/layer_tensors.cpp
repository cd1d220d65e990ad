#include "model/layer_tensors.h"

#include <fmt/format.h>

#include <utility>

namespace calque::model {

LayerTensors::LayerTensors(const TextNames& names, Index layer, bool in_gguf)
    : prefix_(fmt::format("{}.layers.{}", names.model, layer)), layer_(layer), in_gguf_(in_gguf) {}

std::string LayerTensors::gguf(std::string_view name) const {
  return in_gguf_ ? fmt::format("blk.{}.{}", layer_, name) : std::string();
}

LinearSpec LayerTensors::linear(std::string_view module, std::string_view gguf_tensor,
                                Shape shape) const {
  LinearSpec spec;
  spec.name = fmt::format("{}.{}", prefix_, module);
  spec.role = module.substr(module.rfind('.') + 1);
  spec.weight = {.name = spec.name + ".weight",
                 .shape = {shape.out, shape.in},
                 .gguf_name = gguf(fmt::format("{}.weight", gguf_tensor)),
                 .gguf_permuted_heads = shape.permuted_heads,
                 .gguf_expert = shape.expert,
                 .gguf_slabs = shape.experts};
  if (shape.bias)
    spec.bias = {{.name = spec.name + ".bias",
                  .shape = {shape.out},
                  .gguf_name = gguf(fmt::format("{}.bias", gguf_tensor)),
                  .gguf_permuted_heads = shape.permuted_heads,
                  .gguf_expert = shape.expert,
                  .gguf_slabs = shape.experts}};
  return spec;
}

TensorSpec LayerTensors::tensor(std::string_view name, std::string_view gguf_tensor,
                                std::vector<Index> shape) const {
  return {.name = fmt::format("{}.{}", prefix_, name),
          .shape = std::move(shape),
          .gguf_name = gguf(gguf_tensor)};
}

NormSpec LayerTensors::norm(std::string_view module, std::string_view gguf_tensor, Index channels,
                            const NormSpec& like) const {
  NormSpec norm = like;
  norm.weight = {.name = fmt::format("{}.{}.weight", prefix_, module),
                 .shape = {channels},
                 .gguf_name = gguf(fmt::format("{}.weight", gguf_tensor)),
                 .gguf_plus_one = norm.kind == NormSpec::Kind::kOnePlusWeight};
  return norm;
}

std::vector<FoldSpec> norm_fold(const SiteSpec& site, const std::optional<NormSpec>& norm) {
  if (!norm || !norm->has_weight()) return {};
  FoldSpec fold;
  fold.site = site.name;
  fold.kind = norm->kind == NormSpec::Kind::kOnePlusWeight ? FoldSpec::Absorber::kNormPlusOne
                                                           : FoldSpec::Absorber::kNorm;
  fold.absorber = norm->weight;
  for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
  return {fold};
}

FoldSpec rows_fold(const SiteSpec& site, const LinearSpec& maker, Index first_row) {
  FoldSpec fold;
  fold.site = site.name;
  fold.expert = site.expert;
  fold.kind = FoldSpec::Absorber::kRows;
  fold.absorber = maker.weight;
  fold.bias = maker.bias;
  fold.first_row = first_row;
  for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
  return fold;
}

}  // namespace calque::model
