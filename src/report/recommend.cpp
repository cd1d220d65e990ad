#include "calque/report/recommend.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "calque/core/error.h"
#include "calque/core/units.h"
#include "calque/formats/plan.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "report/scale.h"

namespace calque::report {
namespace {

// Sizes from the published config.json.
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

// A model known only by its shapes.
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
      {"Q8_0", "gguf", "Q8_0"},        {"Q6_K", "gguf", "Q6_K"},
      {"Q5_K_M", "gguf", "Q5_K_M"},    {"Q4_K_M", "gguf", "Q4_K_M"},
      {"Q3_K_M", "gguf", "Q3_K_M"},    {"Q2_K", "gguf", "Q2_K"},
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

namespace {

// A KL divergence in nats, with the use it suits.
struct UsualBound {
  double kl;
  const char* need;
};
constexpr UsualBound kUsualBounds[] = {
    {0.001, "nearly indistinguishable: KL up to 0.001"},
    {0.01, "small loss: KL up to 0.01"},
    {0.05, "visible loss: KL up to 0.05"},
};

double kl_of(const Point& point) { return point.main()->kl_mean.value; }

bool within(const Point& point, const Bounds& bounds) {
  return kl_of(point) <= bounds.max_kl.value_or(kl_of(point)) &&
         point.bytes <= bounds.max_bytes.value_or(point.bytes) &&
         point.bits_per_weight <= bounds.max_bits_per_weight.value_or(point.bits_per_weight);
}

const Point* smallest_within(const std::vector<Point>& points, const Bounds& bounds) {
  const Point* best = nullptr;
  for (const Point& p : points)
    if (within(p, bounds) &&
        (best == nullptr || std::pair(p.bytes, kl_of(p)) < std::pair(best->bytes, kl_of(*best))))
      best = &p;
  return best;
}

const Point* closest_within(const std::vector<Point>& points, const Bounds& bounds) {
  const Point* best = nullptr;
  for (const Point& p : points)
    if (within(p, bounds) &&
        (best == nullptr || std::pair(kl_of(p), p.bytes) < std::pair(kl_of(*best), best->bytes)))
      best = &p;
  return best;
}

std::string text_of(const Bounds& bounds) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (bounds.max_kl) add("KL up to " + number_text(*bounds.max_kl));
  if (bounds.max_bytes) add("up to " + bytes_text(*bounds.max_bytes));
  if (bounds.max_bits_per_weight)
    add(fmt::format("up to {} bits/weight", number_text(*bounds.max_bits_per_weight)));
  return text;
}

Advice within_bounds(const std::vector<Point>& points, const Bounds& bounds) {
  const bool by_size = bounds.max_bytes || bounds.max_bits_per_weight;
  const Point* best = by_size ? closest_within(points, bounds) : smallest_within(points, bounds);
  if (best != nullptr)
    return {(by_size ? "closest to the original, " : "smallest, ") + text_of(bounds), *best};
  const Point& smallest = *smallest_within(points, {});
  const Point& closest = *closest_within(points, {});
  throw Error(
      ErrorKind::kConfig, "E254",
      fmt::format("no measured model is within the bounds ({}). The smallest is {} ({}, {:.2f} "
                  "bits/weight, KL {}), the closest {} ({}, {:.2f} bits/weight, KL {}). Relax "
                  "a bound, or measure other settings",
                  text_of(bounds), smallest.label, bytes_text(smallest.bytes),
                  smallest.bits_per_weight, number_text(kl_of(smallest)), closest.label,
                  bytes_text(closest.bytes), closest.bits_per_weight, number_text(kl_of(closest))));
}

std::vector<Advice> for_usual_needs(const std::vector<Point>& points) {
  std::vector<Advice> advice = {{"closest to the original", *closest_within(points, {})}};
  for (const UsualBound& usual : kUsualBounds)
    if (const Point* best = smallest_within(points, {.max_kl = usual.kl}))
      advice.push_back({usual.need, *best});
  advice.push_back({"smallest of all", *smallest_within(points, {})});
  return advice;
}

std::vector<Point> front_of(const std::vector<Point>& points) {
  std::vector<Cost> costs;
  for (const Point& p : points) costs.push_back({static_cast<double>(p.bytes), kl_of(p)});
  std::vector<Point> front;
  for (const std::size_t i : pareto_front(costs)) front.push_back(points[i]);
  return front;
}

}  // namespace

Recommendation recommend(const std::vector<Point>& all, const Bounds& bounds) {
  std::vector<Point> points;
  for (const Point& p : all)
    if (p.main() != nullptr && p.main()->has_kl) points.push_back(p);
  if (points.empty())
    throw Error(
        ErrorKind::kConfig, "E253",
        "nothing was measured: no model here has a KL divergence. Add 'evaluate' to the job, "
        "or let the run finish");
  Recommendation result;
  result.advice =
      bounds.any() ? std::vector<Advice>{within_bounds(points, bounds)} : for_usual_needs(points);
  result.front = front_of(points);
  return result;
}

}  // namespace calque::report
