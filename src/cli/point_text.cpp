#include "cli/point_text.h"

#include <fmt/format.h>

#include <utility>

namespace calque::cli {

std::vector<report::Point> points_in(const std::vector<std::string>& folders) {
  std::vector<report::Point> points;
  for (const std::string& folder : folders)
    for (report::Point& point : report::load_points(folder)) points.push_back(std::move(point));
  return points;
}

std::vector<std::string> quality_cells(const report::Point& point) {
  const report::Quality* q = point.main();
  if (q == nullptr) return std::vector<std::string>(5, "-");
  std::vector<std::string> cells(3, "-");
  if (q->has_kl)
    cells = {fmt::format("{:.5f}", q->kl_mean.value), fmt::format("{:.5f}", q->kl_error()),
             fmt::format("{:.2f}", 100 * q->top1_agreement)};
  cells.push_back(fmt::format("{:.4f}", q->perplexity.value));
  cells.push_back(fmt::format("{:.4f}", q->perplexity.uncertainty));
  return cells;
}

std::vector<std::string> task_cells(const report::Point& point, const std::string& task) {
  const report::TaskQuality* quality = point.find_task(task);
  if (quality == nullptr) return {"-", "-"};
  return {fmt::format("{:.2f}", 100 * quality->right.value),
          fmt::format("{:.2f}", 100 * quality->right.uncertainty)};
}

namespace {

io::Json task_json(const report::TaskQuality& task) {
  io::Json json = {{"task", task.task},
                   {"metric", task.metric},
                   {"value", task.right.value},
                   {"standard_error", task.right.uncertainty},
                   {"original", task.right_original},
                   {"difference", task.difference.value},
                   {"difference_standard_error", task.difference.uncertainty}};
  if (task.p_value >= 0) json["mcnemar_p"] = task.p_value;
  return json;
}

}  // namespace

io::Json json_of(const report::Point& point) {
  io::Json qualities = io::Json::array();
  for (const report::Quality& q : point.qualities) {
    qualities.push_back({{"text", q.text},
                         {"seqlen", q.seqlen},
                         {"tokens_sha256", q.tokens_sha256},
                         {"perplexity", q.perplexity.value},
                         {"perplexity_uncertainty", q.perplexity.uncertainty},
                         {"perplexity_original", q.perplexity_original}});
    if (q.has_kl) {
      qualities.back()["kl_mean"] = q.kl_mean.value;
      qualities.back()["kl_mean_error"] = q.kl_error();
      qualities.back()["top1_agreement"] = q.top1_agreement;
    }
  }
  io::Json tasks = io::Json::array();
  for (const report::TaskQuality& task : point.tasks) tasks.push_back(task_json(task));
  return {{"label", point.label},
          {"run", point.run},
          {"usual_name", point.usual_name},
          {"original", point.base.name},
          {"original_bytes", point.base.tensor_bytes},
          {"bytes", point.bytes},
          {"bits_per_weight", point.bits_per_weight},
          {"evaluations", qualities},
          {"tasks", tasks}};
}

}  // namespace calque::cli
