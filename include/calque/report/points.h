#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/report/record.h"

namespace calque::report {

struct Estimate {
  double value = 0;
  double uncertainty = 0;  // one standard error; 0: not known
};

// What one text says about one model.
struct Quality {
  std::string text;
  std::int64_t seqlen = 0;
  std::string tokenizer;
  std::string tokens_sha256;  // "": not recorded
  Estimate perplexity;
  double perplexity_original = 0;
  bool has_kl = false;
  Estimate kl_mean;
  double kl_mean_sd = 0;  // over replicates; 0: one run
  double kl_median = 0;
  double kl_p99 = 0;
  double top1_agreement = 0;

  // Half of what an error bar spans: the replicates' spread where there are any.
  double kl_error() const { return kl_mean_sd > 0 ? kl_mean_sd : kl_mean.uncertainty; }
};

// Which original a model was made from, as far as its record tells.
struct BaseModel {
  std::string name;
  std::uint64_t tensor_bytes = 0;

  bool operator==(const BaseModel&) const = default;
};

// One quantized model with its size and what it lost.
struct Point {
  std::string label;       // short, unique among its siblings: "demo-Q4_K_M.gguf", "4 bit g128"
  std::string run;         // the run or sweep it comes from
  std::string usual_name;  // "Q4_K_M", "GPTQ 4 bit g128"
  BaseModel base;
  std::uint64_t bytes = 0;  // of tensors
  double bits_per_weight = 0;
  std::vector<Quality> qualities;       // the main text first
  std::vector<std::string> key_values;  // of Sweep::swept, in its order; runs: empty

  const Quality* main() const { return qualities.empty() ? nullptr : &qualities.front(); }
};

// Of the artifacts that were written, or of the points that are done and have a size.
std::vector<Point> points_of(const Run& run);
std::vector<Point> points_of(const Sweep& sweep);
// Of a run or a sweep folder.
std::vector<Point> load_points(const std::filesystem::path& folder);

// A measure to minimise beside another.
struct Cost {
  double size = 0;
  double loss = 0;
};

// Indices of the costs that no other beats in both (equal ones: the first), by ascending size.
std::vector<std::size_t> pareto_front(const std::vector<Cost>& costs);

}  // namespace calque::report
