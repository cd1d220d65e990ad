#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/report/points.h"

namespace calque::report {

// Limits for a model. All given limits apply together.
struct Bounds {
  std::string task;                // a task whose right answers are lost; "": KL divergence
  std::optional<double> max_loss;  // the loss: of a task, a share of its questions
  std::optional<std::uint64_t> max_bytes;
  std::optional<double> max_bits_per_weight;
  bool any() const { return max_loss || max_bytes || max_bits_per_weight; }
};

struct Advice {
  std::string need;  // "smallest with KL divergence up to 0.01"
  Point point;
};

struct Recommendation {
  std::vector<Advice> advice;
  std::vector<Point> front;  // models that no other beats in both size and KL divergence, by size
};

// Recommends among models measured against one original. With a bound on the error alone: the
// smallest model within it. With a bound on size: the lowest KL divergence within all bounds.
// Without bounds: the closest to the original, the best for usual error bounds, and the smallest.
// With `task` the error is the share of right answers that was lost against the original.
// Error(kConfig): "E253" if nothing was measured, "E254" if no model is within the bounds (names
// the nearest).
Recommendation recommend(const std::vector<Point>& points, const Bounds& bounds);

// A widely used model, known only by its shapes.
struct CommonModel {
  std::string_view label;  // "8B"
  std::string_view name;   // "Llama-3-8B"
};
const std::vector<CommonModel>& common_models();

// A common export of a model.
struct UsualExport {
  std::string_view name;  // "Q4_K_M", "GPTQ 4 bit g128"
  std::string_view format;
  std::string_view type;  // gguf
  bool sym = true;        // folders
};
const std::vector<UsualExport>& usual_exports();

struct ExportSize {
  std::uint64_t tensor_bytes = 0;  // exact; a GGUF file adds its tokenizer and header (0.7 to 8 MB)
  double bits_per_weight = 0;
};
// Computed by formats::plan_export from the model's shapes (weights as float16); reads no files.
ExportSize export_size(const CommonModel& model, const UsualExport& usual);

}  // namespace calque::report
