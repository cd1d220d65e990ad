#include <fmt/format.h>

#include <memory>
#include <string>

#include "calque/core/error.h"
#include "calque/formats/plan.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/report/recommend.h"

namespace calque::report {
namespace {

// config.json's numbers as their makers published them.
struct Shape {
  CommonModel model;
  int hidden, intermediate, layers, heads, kv_heads, vocabulary;
};
constexpr Shape kShapes[] = {
    {{"7B", "Llama-2-7B"}, 4096, 11008, 32, 32, 32, 32000},
    {{"8B", "Llama-3-8B"}, 4096, 14336, 32, 32, 8, 128256},
    {{"13B", "Llama-2-13B"}, 5120, 13824, 40, 40, 40, 32000},
    {{"70B", "Llama-3-70B"}, 8192, 28672, 80, 64, 8, 128256},
};

model::FamilySpec family_of(const Shape& s) {
  const std::string json = fmt::format(
      R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {},
           "intermediate_size": {}, "num_hidden_layers": {}, "num_attention_heads": {},
           "num_key_value_heads": {}, "vocab_size": {}, "max_position_embeddings": 4096,
           "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
           "tie_word_embeddings": false, "torch_dtype": "float16"}})",
      s.hidden, s.intermediate, s.layers, s.heads, s.kv_heads, s.vocabulary);
  return model::family_of(model::parse_config(json, std::string(s.model.name)));
}

// A model of which only the shapes are known.
class ShapeSource : public model::ModelSource {
 public:
  explicit ShapeSource(const model::FamilySpec& family)
      : ModelSource("shapes", tensors_of(family)) {}

  Matrix<float> load(std::string_view) const override { refuse(); }
  model::TensorBytes bytes(std::string_view) const override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw Error(ErrorKind::kInternal, "", "a model of shapes has no values");
  }
  static std::vector<model::SourceTensor> tensors_of(const model::FamilySpec& family) {
    std::vector<model::SourceTensor> tensors;
    for (const model::TensorSpec& t : family.tensors())
      tensors.push_back({t.name, DType::kF16, t.shape});
    return tensors;
  }
};

const Shape& shape_of(const CommonModel& model) {
  for (const Shape& shape : kShapes)
    if (shape.model.name == model.name) return shape;
  throw Error(ErrorKind::kInternal, "", "no shapes of that model");
}

}  // namespace

const std::vector<CommonModel>& common_models() {
  static const std::vector<CommonModel> kModels = [] {
    std::vector<CommonModel> models;
    for (const Shape& shape : kShapes) models.push_back(shape.model);
    return models;
  }();
  return kModels;
}

const std::vector<UsualExport>& usual_exports() {
  static const std::vector<UsualExport> kExports = {
      {"Q8_0", "gguf", "Q8_0"},        {"Q6_K", "gguf", "Q6_K"},     {"Q5_K_M", "gguf", "Q5_K_M"},
      {"Q4_K_M", "gguf", "Q4_K_M"},    {"Q3_K_M", "gguf", "Q3_K_M"}, {"Q2_K", "gguf", "Q2_K"},
      {"GPTQ 4 bit g128", "gptq", ""}, {"AWQ 4 bit g128", "awq", "", /*sym=*/false}};
  return kExports;
}

ExportSize export_size(const CommonModel& model, const UsualExport& usual) {
  const model::FamilySpec family = family_of(shape_of(model));
  const ShapeSource source(family);
  formats::QuantizationRequest quantization{.bits = 4, .group_size = 128};
  quantization.sym = usual.sym;
  formats::ExportRequest request{.format = std::string(usual.format), .path = "planned"};
  if (!usual.type.empty()) request.type = usual.type;
  const formats::ExportPlan plan = plan_export(family, source, quantization, request);
  return {plan.tensor_bytes, plan.bits_per_weight};
}

}  // namespace calque::report
