#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/report/record.h"

namespace calque::report {

struct Estimate {
  double value = 0;
  double uncertainty = 0;  // one standard error; 0: unknown
};

// Results for one model on one text.
struct Quality {
  std::string text;
  std::int64_t seqlen = 0;
  std::string tokenizer;
  std::string tokens_sha256;  // "": not recorded
  Estimate perplexity;
  double perplexity_original = 0;
  bool has_kl = false;
  Estimate kl_mean;
  double kl_mean_sd = 0;  // standard deviation over replicates; 0: one run
  double kl_median = 0;
  double kl_p99 = 0;
  double top1_agreement = 0;

  // Half the length of an error bar: from the spread of the replicates if there are any.
  double kl_error() const { return kl_mean_sd > 0 ? kl_mean_sd : kl_mean.uncertainty; }
};

// Results for one model on one task, by the task's main metric (record/task.h).
struct TaskQuality {
  std::string task;
  std::string metric;
  std::string questions;  // hash of the file and number of questions; "": not recorded
  Estimate right;
  double right_original = 0;
  Estimate difference;  // from the original, paired
  double p_value = 1;   // McNemar's exact test; over replicates there is none: -1
};

// Identifies the original that a model was made from, as far as its record says.
struct BaseModel {
  std::string name;
  std::uint64_t tensor_bytes = 0;

  bool operator==(const BaseModel&) const = default;
};

// One quantized model with its size and its losses.
struct Point {
  std::string label;       // short, unique among its siblings: "demo-Q4_K_M.gguf", "4 bit g128"
  std::string run;         // the run or sweep it belongs to
  std::string usual_name;  // "Q4_K_M", "GPTQ 4 bit g128"
  BaseModel base;
  std::uint64_t bytes = 0;  // tensor data
  double bits_per_weight = 0;
  std::vector<Quality> qualities;       // the main text first
  std::vector<std::string> key_values;  // values of Sweep::swept, in its order; empty for runs
  std::vector<TaskQuality> tasks = {};

  const Quality* main() const { return qualities.empty() ? nullptr : &qualities.front(); }
  const TaskQuality* find_task(const std::string& name) const;  // null: not measured
};

// The artifacts of a run, or the points of a sweep that are done and have a size.
std::vector<Point> points_of(const Run& run);
std::vector<Point> points_of(const Sweep& sweep);
// Loads the points of a run or sweep folder.
std::vector<Point> load_points(const std::filesystem::path& folder);

// Names of the tasks that any of the points was measured on, in order of first appearance.
std::vector<std::string> task_names(const std::vector<Point>& points);

// A size and a loss, both to be minimized.
struct Cost {
  double size = 0;
  double loss = 0;
};

// Indices of the costs that no other cost beats in both (of equal ones the first), by rising size.
std::vector<std::size_t> pareto_front(const std::vector<Cost>& costs);

}  // namespace calque::report
