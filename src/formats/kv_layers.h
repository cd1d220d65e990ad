#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/core/kv_scales.h"
#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"

// FP8 scales of the key/value cache in a folder: `<attention>.k_scale` and `.v_scale`, of the
// model's dtype, [1] or [heads, 1, 1]. cached = fp8(x / scale), x = scale * cached.
namespace calque::formats {

// A layer that has keys and values of its own.
struct KvLayer {
  Index layer = 0;
  Index heads = 0;
  std::string attention;  // "model.layers.0.self_attn"
};
std::vector<KvLayer> kv_layers(const model::FamilySpec& family);

// The tensors of the export's scales; empty if it has none.
std::vector<io::TensorDeclaration> kv_declarations(const ExportRequest& request,
                                                   const model::FamilySpec& family,
                                                   const model::ModelSource& source);

// largest / 448 in the precision of `dtype`; 1 where nothing was measured. One number, of all
// heads, or one a head.
std::vector<float> kv_scales(const std::vector<float>& largest_H, bool by_head, DType dtype);

// The scales of a folder that says it has them, 1 where a tensor is missing, as vLLM takes it.
// Error(kInput, "E174") for tensors of another shape, and numbers that are not positive.
KvNumbersByLayer read_kv_scales(const io::SafetensorsCheckpoint& checkpoint,
                                const model::FamilySpec& family);

}  // namespace calque::formats
