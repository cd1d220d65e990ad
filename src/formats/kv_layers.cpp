#include "formats/kv_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/small_float.h"

namespace calque::formats {
namespace {

// The checkpoint's own, where that is a float of 16 bits; else float32.
DType dtype_of(const model::FamilySpec& family, const model::ModelSource& source) {
  const DType dtype = source.at(family.final_norm.name).dtype;
  return dtype == DType::kF16 || dtype == DType::kBF16 ? dtype : DType::kF32;
}

float held_by(float value, DType dtype) {
  if (dtype == DType::kF16) return rounded_to_half(value);
  return dtype == DType::kBF16 ? rounded_to_bfloat16(value) : value;
}

// The folder's numbers for one tensor.
std::vector<float> numbers_of(const io::SafetensorsCheckpoint& checkpoint, const std::string& name,
                              Index heads) {
  const io::TensorRef* tensor = checkpoint.find(name);
  if (tensor == nullptr) return {1.0f};
  Index count = 1;
  for (const Index n : tensor->shape) count *= n;
  if (!is_floating(tensor->dtype) || (count != 1 && count != heads))
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("tensor '{}' is {} with {} elements, but a cache of {} heads has 1 or "
                            "{} floating-point scales",
                            name, name_of(tensor->dtype), count, heads, heads));
  std::vector<float> numbers(static_cast<std::size_t>(count));
  convert_to_float(tensor->bytes.data(), tensor->dtype, numbers.size(), numbers.data());
  for (const float number : numbers)
    if (!(number > 0) || !std::isfinite(number))
      throw Error(ErrorKind::kInput, "E174",
                  fmt::format("tensor '{}' has the scale {}, which is not positive", name, number));
  return numbers;
}

}  // namespace

std::vector<KvLayer> kv_layers(const model::FamilySpec& family) {
  std::vector<KvLayer> layers;
  for (const model::BlockSpec& block : family.blocks)
    for (const model::HalfSpec& half : block.halves) {
      const std::optional<model::CacheShape> cache = half.mixer->cache();
      if (!cache) continue;
      const std::string& reader = block.sites[half.first_site].readers.front().name;
      layers.push_back({block.layer, cache->heads, reader.substr(0, reader.rfind('.'))});
    }
  return layers;
}

std::vector<io::TensorDeclaration> kv_declarations(const ExportRequest& request,
                                                   const model::FamilySpec& family,
                                                   const model::ModelSource& source) {
  std::vector<io::TensorDeclaration> tensors;
  if (!request.stores_kv_scales()) return tensors;
  const DType dtype = dtype_of(family, source);
  for (const KvLayer& layer : kv_layers(family)) {
    const std::vector<Index> shape =
        request.has_scale_a_head() ? std::vector<Index>{layer.heads, 1, 1} : std::vector<Index>{1};
    for (const char* part : {".k_scale", ".v_scale"})
      tensors.push_back({layer.attention + part, dtype, shape});
  }
  return tensors;
}

std::vector<float> kv_scales(const std::vector<float>& largest_H, bool by_head, DType dtype) {
  std::vector<float> largest = largest_H;
  if (!by_head) largest = {*std::ranges::max_element(largest_H)};
  for (float& number : largest) {
    const float scale = held_by(number / info_of(SmallFloat::kE4M3).largest, dtype);
    number = scale > 0 ? scale : 1.0f;
  }
  return largest;
}

KvNumbersByLayer read_kv_scales(const io::SafetensorsCheckpoint& checkpoint,
                                const model::FamilySpec& family) {
  KvNumbersByLayer scales;
  for (const KvLayer& layer : kv_layers(family))
    scales[layer.layer] = {numbers_of(checkpoint, layer.attention + ".k_scale", layer.heads),
                           numbers_of(checkpoint, layer.attention + ".v_scale", layer.heads)};
  return scales;
}

}  // namespace calque::formats
