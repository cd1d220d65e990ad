#include "calque/report/recommend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

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

// The distance of a model from its original, and its names.
class Loss {
 public:
  explicit Loss(std::string task) : task_(std::move(task)) {}

  bool known(const Point& p) const {
    return task_.empty() ? p.main() != nullptr && p.main()->has_kl : p.find_task(task_) != nullptr;
  }
  double of(const Point& p) const {
    return task_.empty() ? p.main()->kl_mean.value : -p.find_task(task_)->difference.value;
  }
  std::string text(double loss) const {
    return task_.empty() ? "KL " + number_text(loss)
                         : fmt::format("{:.2f} % of {} lost", 100 * loss, task_);
  }
  std::string bound(double most) const {
    return task_.empty() ? "KL up to " + number_text(most)
                         : fmt::format("up to {} % of {} lost", number_text(100 * most), task_);
  }
  std::string closest() const {
    return task_.empty() ? "closest to the original" : "most right answers on " + task_;
  }

  // A loss with the use it suits.
  struct Usual {
    double most;
    std::string need;
  };
  std::vector<Usual> usual() const {
    if (!task_.empty())
      return {{0, "nothing lost on " + task_},
              {0.01, "up to 1 % of the questions lost"},
              {0.05, "up to 5 % of the questions lost"}};
    return {{0.001, "nearly indistinguishable: KL up to 0.001"},
            {0.01, "small loss: KL up to 0.01"},
            {0.05, "visible loss: KL up to 0.05"}};
  }

 private:
  std::string task_;
};

// The points that were measured, under one loss.
class Choice {
 public:
  Choice(const std::vector<Point>& points, const Loss& loss) : points_(points), loss_(loss) {}

  const Point* smallest_within(const Bounds& bounds) const {
    return first_within(
        bounds, [&](const Point& p) { return std::pair<double, double>(p.bytes, loss_.of(p)); });
  }
  const Point* closest_within(const Bounds& bounds) const {
    return first_within(
        bounds, [&](const Point& p) { return std::pair<double, double>(loss_.of(p), p.bytes); });
  }

  Advice within_bounds(const Bounds& bounds) const {
    const bool by_size = bounds.max_bytes || bounds.max_bits_per_weight;
    const Point* best = by_size ? closest_within(bounds) : smallest_within(bounds);
    if (best != nullptr)
      return {(by_size ? loss_.closest() + ", " : "smallest, ") + text_of(bounds), *best};
    const Point& smallest = *smallest_within({});
    const Point& closest = *closest_within({});
    throw Error(ErrorKind::kConfig, "E254",
                fmt::format("no measured model is within the bounds ({}). The smallest is {} ({}, "
                            "{:.2f} bits/weight, {}), the closest {} ({}, {:.2f} bits/weight, {}). "
                            "Relax a bound, or measure other settings",
                            text_of(bounds), smallest.label, bytes_text(smallest.bytes),
                            smallest.bits_per_weight, loss_.text(loss_.of(smallest)), closest.label,
                            bytes_text(closest.bytes), closest.bits_per_weight,
                            loss_.text(loss_.of(closest))));
  }

  std::vector<Advice> for_usual_needs() const {
    std::vector<Advice> advice = {{loss_.closest(), *closest_within({})}};
    for (const Loss::Usual& usual : loss_.usual())
      if (const Point* best = smallest_within(up_to(usual.most)))
        advice.push_back({usual.need, *best});
    advice.push_back({"smallest of all", *smallest_within({})});
    return advice;
  }

  std::vector<Point> front() const {
    std::vector<Cost> costs;
    for (const Point& p : points_) costs.push_back({static_cast<double>(p.bytes), loss_.of(p)});
    std::vector<Point> front;
    for (const std::size_t i : pareto_front(costs)) front.push_back(points_[i]);
    return front;
  }

 private:
  static Bounds up_to(double loss) {
    Bounds bounds;
    bounds.max_loss = loss;
    return bounds;
  }

  bool within(const Point& p, const Bounds& bounds) const {
    return loss_.of(p) <= bounds.max_loss.value_or(loss_.of(p)) &&
           p.bytes <= bounds.max_bytes.value_or(p.bytes) &&
           p.bits_per_weight <= bounds.max_bits_per_weight.value_or(p.bits_per_weight);
  }

  template <typename Key>
  const Point* first_within(const Bounds& bounds, const Key& key) const {
    const Point* best = nullptr;
    for (const Point& p : points_)
      if (within(p, bounds) && (best == nullptr || key(p) < key(*best))) best = &p;
    return best;
  }

  std::string text_of(const Bounds& bounds) const {
    std::string text;
    const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
    if (bounds.max_loss) add(loss_.bound(*bounds.max_loss));
    if (bounds.max_bytes) add("up to " + bytes_text(*bounds.max_bytes));
    if (bounds.max_bits_per_weight)
      add(fmt::format("up to {} bits/weight", number_text(*bounds.max_bits_per_weight)));
    return text;
  }

  const std::vector<Point>& points_;
  const Loss& loss_;
};

}  // namespace

Recommendation recommend(const std::vector<Point>& all, const Bounds& bounds) {
  const Loss loss(bounds.task);
  std::vector<Point> points;
  for (const Point& p : all)
    if (loss.known(p)) points.push_back(p);
  if (points.empty() && bounds.task.empty())
    throw Error(
        ErrorKind::kConfig, "E253",
        "nothing was measured: no model here has a KL divergence. Add 'evaluate' to the job, "
        "or let the run finish");
  if (points.empty())
    throw Error(
        ErrorKind::kConfig, "E253",
        fmt::format("no model here was measured on a task '{}'; tasks: {}. Name one of "
                    "these, or add it to evaluate.tasks of the job",
                    bounds.task,
                    task_names(all).empty() ? std::string("none")
                                            : fmt::format("{}", fmt::join(task_names(all), ", "))));
  const Choice choice(points, loss);
  Recommendation result;
  result.advice =
      bounds.any() ? std::vector<Advice>{choice.within_bounds(bounds)} : choice.for_usual_needs();
  result.front = choice.front();
  return result;
}

}  // namespace calque::report
