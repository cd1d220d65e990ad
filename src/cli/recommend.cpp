#include "calque/report/recommend.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/json.h"
#include "cli/commands.h"
#include "cli/evaluation_tables.h"
#include "cli/point_text.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

struct RecommendArguments {
  std::vector<std::string> folders;
  double max_kl = 0;
  std::string task;
  double max_lost = -1;   // percent
  std::string max_bytes;  // "4GiB"
  double max_bits_per_weight = 0;
  bool json = false;
};

// "4GiB", "3.5 GB", "500000".
std::uint64_t parsed_bytes(const std::string& text) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},     {"B", 1},        {"KB", 1e3},     {"MB", 1e6},
      {"GB", 1e9}, {"KiB", 1024.0}, {"MiB", 0x1p20}, {"GiB", 0x1p30}};
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(parsed.ptr, text.data() + text.size());
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits)
    if (parsed.ec == std::errc() && unit == name && number > 0 && number * bytes < 1e18)
      return static_cast<std::uint64_t>(number * bytes);
  throw Error(
      ErrorKind::kConfig, "E001",
      fmt::format("--max-bytes: '{}' is not a size; write 4GiB, 3.5GB or 500000", printable(text)));
}

report::Bounds bounds_of(const RecommendArguments& arguments) {
  report::Bounds bounds;
  bounds.task = arguments.task;
  if (arguments.max_kl > 0) bounds.max_loss = arguments.max_kl;
  if (arguments.max_lost >= 0) bounds.max_loss = arguments.max_lost / 100;
  if (!arguments.max_bytes.empty()) bounds.max_bytes = parsed_bytes(arguments.max_bytes);
  if (arguments.max_bits_per_weight > 0) bounds.max_bits_per_weight = arguments.max_bits_per_weight;
  return bounds;
}

// KL divergences against two originals are not comparable, so advice from both would be
// meaningless.
void check_one_original(const std::vector<report::Point>& points) {
  for (const report::Point& p : points)
    if (p.base.tensor_bytes != points.front().base.tensor_bytes ||
        (!p.base.name.empty() && !points.front().base.name.empty() &&
         p.base.name != points.front().base.name))
      throw Error(
          ErrorKind::kConfig, "E255",
          fmt::format("'{}' and '{}' were made from different originals, whose KL divergences do "
                      "not compare. Give the runs of one original; 'calque compare' puts "
                      "different ones side by side",
                      printable(points.front().label), printable(p.label)));
}

std::string measured_on(const std::vector<report::Point>& points, const std::string& task) {
  for (const report::Point& p : points)
    if (const report::TaskQuality* quality = p.find_task(task))
      return fmt::format("{} ({}), task {} ({}); right answers in percent, the original's {:.2f}",
                         p.base.name.empty() ? "one model" : printable(p.base.name),
                         bytes_text(p.base.tensor_bytes), printable(task), quality->metric,
                         100 * quality->right_original);
  for (const report::Point& p : points)
    if (p.main() != nullptr && p.main()->has_kl)
      return fmt::format("{} ({}), text {}, {} tokens at a time; KL divergence in nats",
                         p.base.name.empty() ? "one model" : printable(p.base.name),
                         bytes_text(p.base.tensor_bytes), printable(p.main()->text),
                         p.main()->seqlen);
  return "";
}

std::vector<std::string> difference_cells(const report::TaskQuality& task) {
  return {fmt::format("{:+.2f}", 100 * task.difference.value),
          fmt::format("{:.2f}", 100 * task.difference.uncertainty),
          task.p_value < 0 ? "-" : fmt::format("{:.3g}", task.p_value)};
}

// With a task, its results instead of those on the main text.
std::vector<std::string> point_cells(const report::Point& p, const std::string& task) {
  std::vector<std::string> cells = {printable(p.label), printable(p.usual_name),
                                    bytes_text(p.bytes), fmt::format("{:.3f}", p.bits_per_weight)};
  if (!task.empty()) {
    append(task_cells(p, task), cells);
    append(difference_cells(*p.find_task(task)), cells);
    return cells;
  }
  const std::vector<std::string> quality = quality_cells(p);
  cells.insert(cells.end(), quality.begin(), quality.begin() + 3);
  return cells;
}

std::vector<TextTable::Column> point_columns(const std::string& task) {
  std::vector<TextTable::Column> columns = {
      {"model", Align::kLeft}, {"kind", Align::kLeft}, {"size"}, {"bits/weight"}};
  if (task.empty())
    append<TextTable::Column>({{"KL mean"}, {"+/-"}, {"top-1 %"}}, columns);
  else
    append<TextTable::Column>({{"right %"}, {"+/-"}, {"difference"}, {"+/-"}, {"p"}}, columns);
  return columns;
}

std::string advice_table(const std::vector<report::Advice>& advice, const std::string& task) {
  auto columns = point_columns(task);
  columns.insert(columns.begin(), {"need", Align::kLeft});
  TextTable table(columns);
  for (const report::Advice& a : advice) {
    std::vector<std::string> cells = point_cells(a.point, task);
    cells.insert(cells.begin(), a.need);
    table.add(std::move(cells));
  }
  return table.text();
}

std::string front_table(const std::vector<report::Point>& front, const std::string& task) {
  TextTable table(point_columns(task));
  for (const report::Point& p : front) table.add(point_cells(p, task));
  return table.text();
}

std::string kl_of(const std::vector<report::Point>& points, std::string_view usual_name) {
  const report::Point* best = nullptr;
  for (const report::Point& p : points)
    if (p.usual_name == usual_name && p.main() != nullptr && p.main()->has_kl)
      if (best == nullptr || p.main()->kl_mean.value < best->main()->kl_mean.value) best = &p;
  return best == nullptr ? "-" : fmt::format("{:.5f}", best->main()->kl_mean.value);
}

std::string gigabytes(std::uint64_t bytes) {
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

std::string sizes_table(const std::vector<report::Point>& points) {
  std::vector<TextTable::Column> columns = {{"usual name", Align::kLeft}, {"KL here"}};
  for (const report::CommonModel& model : report::common_models())
    columns.push_back({fmt::format("{} ({})", model.label, model.name)});
  TextTable table(columns);
  for (const report::UsualExport& usual : report::usual_exports()) {
    std::vector<std::string> row = {std::string(usual.name), kl_of(points, usual.name)};
    for (const report::CommonModel& model : report::common_models()) {
      const report::ExportSize size = report::export_size(model, usual);
      row.push_back(
          fmt::format("{} {:5.2f} bits", gigabytes(size.tensor_bytes), size.bits_per_weight));
    }
    table.add(std::move(row));
  }
  return table.text();
}

io::Json sizes_json() {
  io::Json sizes = io::Json::array();
  for (const report::UsualExport& usual : report::usual_exports())
    for (const report::CommonModel& model : report::common_models()) {
      const report::ExportSize size = report::export_size(model, usual);
      sizes.push_back({{"name", usual.name},
                       {"model", model.name},
                       {"tensor_bytes", size.tensor_bytes},
                       {"bits_per_weight", size.bits_per_weight}});
    }
  return sizes;
}

void print_json(const report::Recommendation& recommendation) {
  io::Json advice = io::Json::array();
  for (const report::Advice& a : recommendation.advice)
    advice.push_back({{"need", a.need}, {"use", json_of(a.point)}});
  io::Json front = io::Json::array();
  for (const report::Point& p : recommendation.front) front.push_back(json_of(p));
  const io::Json json = {{"advice", advice}, {"front", front}, {"sizes", sizes_json()}};
  fmt::print("{}\n", json.dump(2));
}

void recommend(const RecommendArguments& arguments) {
  const std::vector<report::Point> points = points_in(arguments.folders);
  check_one_original(points);
  if (arguments.max_lost >= 0 && arguments.task.empty())
    throw Error(ErrorKind::kConfig, "E001",
                "--max-lost is a bound for a task; name it: --task NAME");
  const report::Recommendation recommendation = report::recommend(points, bounds_of(arguments));
  if (arguments.json) return print_json(recommendation);
  fmt::print("Measured on {}\n\n{}", measured_on(points, arguments.task),
             advice_table(recommendation.advice, arguments.task));
  fmt::print("\nModels that no other beats in both size and {}\n\n{}",
             arguments.task.empty() ? "KL divergence" : "right answers",
             front_table(recommendation.front, arguments.task));
  fmt::print(
      "\nSizes of common models, from their shapes (tensors; a GGUF file adds its tokenizer, 1 to "
      "8 "
      "MB)\n\n{}"
      "\n\"KL here\" was measured on the model above. Other models differ: larger ones lose less, "
      "models trained on\nmore text lose more. The order of the types carries over, the figures do "
      "not; measure your own model.\n",
      sizes_table(points));
}

}  // namespace

Command recommend_command(const CommandContext&) {
  const auto a = std::make_shared<RecommendArguments>();
  return {
      "recommend",
      "Recommend one of the measured models, and show the sizes of common models.",
      {Option{"FOLDER", &a->folders, "Run or sweep folders of the same original."}
           .required()
           .folder(),
       Option{"--max-kl", &a->max_kl,
              "Recommend the smallest model with at most this KL divergence."}
           .positive(),
       Option{"--task", &a->task,
              "Judge by right answers on this task of the runs, not by KL divergence."}
           .called("NAME")
           .without("--max-kl"),
       Option{"--max-lost", &a->max_lost,
              "Recommend the smallest model that loses at most this percentage of the task's "
              "questions against the original; 0 allows no loss. Needs --task."},
       {"--max-bytes", &a->max_bytes,
        "Recommend the closest model of at most this size, such as 4GiB."},
       Option{"--max-bits-per-weight", &a->max_bits_per_weight,
              "Recommend the closest model of at most this many bits per weight, over all tensors."}
           .positive(),
       json_option(a->json, "Print the advice as JSON.")},
      "  calque recommend runs/demo\n"
      "  calque recommend runs/ablation --max-kl 0.01\n"
      "  calque recommend runs/demo --max-bytes 4GiB\n"
      "  calque recommend runs/demo --task reading --max-lost 1",
      [a] { recommend(*a); }};
}

}  // namespace calque::cli
