#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/report/points.h"

namespace calque::report {

// What a model may cost. All that are given hold at once.
struct Bounds {
  std::optional<double> max_kl;
  std::optional<std::uint64_t> max_bytes;
  std::optional<double> max_bits_per_weight;
  bool any() const { return max_kl || max_bytes || max_bits_per_weight; }
};

struct Advice {
  std::string need;  // "smallest with KL divergence up to 0.01"
  Point point;
};

struct Recommendation {
  std::vector<Advice> advice;
  std::vector<Point> front;  // that no other beats in both size and KL divergence, by size
};

// From models that were measured against one original. With a bound on error alone: the smallest
// within; with a bound on size: the lowest KL divergence within both. Without bounds: the closest,
// the best value for usual error bounds, and the smallest. Error(kConfig): "E253" if nothing was
// measured, "E254" if no model is within the bounds (with the nearest).
Recommendation recommend(const std::vector<Point>& points, const Bounds& bounds);

// A model that many people run, by its shapes alone.
struct CommonModel {
  std::string_view label;  // "8B"
  std::string_view name;   // "Llama-3-8B"
};
const std::vector<CommonModel>& common_models();

// What is usually made of a model.
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
// By formats::plan_export from the model's shapes (its weights as float16), no files read.
ExportSize export_size(const CommonModel& model, const UsualExport& usual);

}  // namespace calque::report
