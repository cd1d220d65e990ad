#include "calque/report/points.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "calque/formats/format.h"

namespace calque::report {
namespace {

Quality quality_of(const record::EvaluationReport& evaluation, const record::Measurement& model) {
  Quality q;
  q.text = evaluation.text;
  q.seqlen = evaluation.seqlen;
  q.tokenizer = evaluation.manifest.tokenizer;
  q.tokens_sha256 = evaluation.manifest.tokens_sha256;
  q.perplexity = {model.perplexity_hf.value, model.perplexity_hf.uncertainty};
  if (const record::Measurement* reference = evaluation.find(record::ModelKind::kReference))
    q.perplexity_original = reference->perplexity_hf.value;
  if (model.compared()) {
    const record::DivergenceResult& d = model.divergence;
    q.has_kl = true;
    q.kl_mean = {d.kl_mean, d.kl_mean_uncertainty};
    q.kl_median = d.kl_median;
    q.kl_p99 = d.kl_p99;
    q.top1_agreement = d.top1_agreement;
  }
  return q;
}

std::optional<TaskQuality> quality_of(const record::TaskReport& task,
                                      const record::TaskMeasurement& model) {
  const std::string* right = model.find(task.metric);
  const std::string* before = task.reference().find(task.metric);
  if (right == nullptr || before == nullptr || right->size() != before->size()) return std::nullopt;
  const record::Share share = record::share_right(*right);
  const record::PairedDifference d = record::paired_difference(*before, *right);
  return TaskQuality{.task = task.task,
                     .metric = task.metric,
                     .questions = fmt::format("{} {}", task.sha256, task.questions),
                     .right = {share.value, share.standard_error},
                     .right_original = record::share_right(*before).value,
                     .difference = {d.value, d.standard_error},
                     .p_value = d.p_value};
}

std::optional<TaskQuality> quality_of(const SweepPoint& point, const std::string& task) {
  const auto number = [&](const char* column) {
    return point.number_in(fmt::format("{}[{}]", column, task));
  };
  const std::string metric = point.cell(fmt::format("task[{}]", task));
  if (metric.empty()) return std::nullopt;
  const bool tested = !point.cell(fmt::format("mcnemar_p[{}]", task)).empty();
  return TaskQuality{
      .task = task,
      .metric = metric,
      .questions = "",
      .right = {number("right"), number("right_uncertainty")},
      .right_original = number("right_original"),
      .difference = {number("right_difference"), number("right_difference_uncertainty")},
      .p_value = tested ? number("mcnemar_p") : -1};
}

// Bits and group size of most modules.
std::string grid_text(const std::vector<record::ModuleReport>* pass) {
  if (pass == nullptr || pass->empty()) return "";
  std::map<std::pair<int, std::int64_t>, int> counts;
  for (const record::ModuleReport& m : *pass) ++counts[{m.grid.bits, m.grid.group_size}];
  const auto most = std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; });
  return fmt::format(" {} bit g{}", most->first.first, most->first.second);
}

std::string usual_name(const Run& run, std::size_t i) {
  const record::ArtifactReport& artifact = run.artifacts[i];
  const std::string grid = grid_text(run.pass_of(i));
  if (!artifact.type().empty()) return artifact.type();
  const formats::Format* format = formats::find_format(artifact.format());
  return (format == nullptr ? artifact.format() : std::string(format->label)) + grid;
}

Quality main_quality(const SweepPoint& point) {
  Quality q;
  q.text = point.cell("text");
  q.seqlen = static_cast<std::int64_t>(point.number_in("seqlen"));
  q.perplexity = {point.number_in("ppl"), point.number_in("ppl_uncertainty")};
  q.perplexity_original = point.number_in("ppl_original");
  q.has_kl = !point.cell("kl_mean").empty();
  q.kl_mean = {point.number_in("kl_mean"), point.number_in("kl_mean_uncertainty")};
  q.kl_mean_sd = point.number_in("kl_mean_sd");
  q.kl_median = point.number_in("kl_median");
  q.kl_p99 = point.number_in("kl_p99");
  q.top1_agreement = point.number_in("top1_agreement");
  return q;
}

Quality further_quality(const SweepPoint& point, const std::string& text) {
  Quality q;
  q.text = text;
  q.seqlen = static_cast<std::int64_t>(point.number_in("seqlen"));
  q.perplexity.value = point.number_in("ppl[" + text + "]");
  q.has_kl = !point.cell("kl_mean[" + text + "]").empty();
  q.kl_mean = {point.number_in("kl_mean[" + text + "]"),
               point.number_in("kl_mean_uncertainty[" + text + "]")};
  return q;
}

// Adds the properties of the sweep's first run that all points share: the original and the tokens.
void add_what_is_common(const Sweep& sweep, Point& point) {
  if (!sweep.first_run) return;
  point.base.name = sweep.first_run->source_name;
  for (Quality& q : point.qualities)
    for (const record::EvaluationReport& evaluation : sweep.first_run->evaluations)
      if (evaluation.text == q.text && evaluation.seqlen == q.seqlen) {
        q.tokenizer = evaluation.manifest.tokenizer;
        q.tokens_sha256 = evaluation.manifest.tokens_sha256;
      }
}

// The type if the format has types, else method, bits and group size.
std::string usual_name(const SweepPoint& point) {
  const std::string type = point.cell("type");
  const formats::Format* format = formats::find_format(point.cell("format"));
  if (format != nullptr && format->has_block_types && !type.empty()) return type;
  const std::string group = point.cell("group_size");
  std::string method = point.cell("method");
  std::ranges::transform(method, method.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return fmt::format("{} {} bit{}", method, point.cell("bits"),
                     group.empty()   ? ""
                     : group == "-1" ? " per row"
                                     : " g" + group);
}

std::string further_name(const SweepPoint& point) {
  const std::string type = point.cell("type");
  return type.empty() ? point.cell("format") : type;
}

// A label such as "4b g128" from the values of the swept keys; the number if nothing was swept.
std::string label_of(const Sweep& sweep, const SweepPoint& point) {
  std::string label;
  for (const std::string& key : sweep.swept) {
    const std::string name = key.substr(key.rfind('.') + 1);
    const std::string value = point.cell(key);
    label += label.empty() ? "" : " ";
    label += name == "bits"         ? value + "b"
             : name == "group_size" ? "g" + value
             : name == "type"       ? value
                                    : name + "=" + value;
  }
  if (label.empty()) label = fmt::format("#{}", point.number);
  // Further rows of the same point are its other exports.
  const auto same = [&](const SweepPoint& p) { return p.number == point.number; };
  return std::ranges::count_if(sweep.points, same) == 1 ? label : label + " " + further_name(point);
}

Point point_of(const Sweep& sweep, const SweepPoint& row) {
  Point point;
  point.label = label_of(sweep, row);
  point.run = sweep.name;
  point.usual_name = usual_name(row);
  point.base.tensor_bytes = static_cast<std::uint64_t>(row.number_in("source_bytes"));
  point.bytes = static_cast<std::uint64_t>(row.number_in("tensor_bytes"));
  point.bits_per_weight = row.number_in("bits_per_weight");
  if (!row.cell("text").empty()) point.qualities.push_back(main_quality(row));
  for (std::size_t i = 1; i < sweep.texts.size(); ++i)
    point.qualities.push_back(further_quality(row, sweep.texts[i]));
  for (const std::string& key : sweep.swept) point.key_values.push_back(row.cell(key));
  for (const std::string& task : sweep.tasks)
    if (auto quality = quality_of(row, task)) point.tasks.push_back(std::move(*quality));
  add_what_is_common(sweep, point);
  return point;
}

}  // namespace

const TaskQuality* Point::find_task(const std::string& name) const {
  const auto found = std::ranges::find(tasks, name, &TaskQuality::task);
  return found == tasks.end() ? nullptr : &*found;
}

std::vector<std::string> task_names(const std::vector<Point>& points) {
  std::vector<std::string> names;
  for (const Point& point : points)
    for (const TaskQuality& task : point.tasks)
      if (std::ranges::find(names, task.task) == names.end()) names.push_back(task.task);
  return names;
}

std::vector<Point> points_of(const Run& run) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < run.artifacts.size(); ++i) {
    const record::ArtifactReport& artifact = run.artifacts[i];
    Point point{artifact.name(),
                run.name,
                usual_name(run, i),
                {run.source_name, run.source_bytes},
                artifact.plan.tensor_bytes,
                artifact.bits_per_weight,
                {},
                {}};
    for (const record::EvaluationReport& evaluation : run.evaluations)
      if (const record::Measurement* model = evaluation.artifact(artifact.name()))
        point.qualities.push_back(quality_of(evaluation, *model));
    for (const record::TaskReport& task : run.tasks)
      if (const record::TaskMeasurement* model = task.artifact(artifact.name()))
        if (auto quality = quality_of(task, *model)) point.tasks.push_back(std::move(*quality));
    points.push_back(std::move(point));
  }
  return points;
}

std::vector<Point> points_of(const Sweep& sweep) {
  std::vector<Point> points;
  for (const SweepPoint& row : sweep.points)
    if (row.status == "done" && row.number_in("tensor_bytes") > 0)
      points.push_back(point_of(sweep, row));
  return points;
}

std::vector<Point> load_points(const std::filesystem::path& folder) {
  return kind_of(folder) == FolderKind::kSweep ? points_of(load_sweep(folder))
                                               : points_of(load_run(folder));
}

std::vector<std::size_t> pareto_front(const std::vector<Cost>& costs) {
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return std::pair(costs[a].size, costs[a].loss) < std::pair(costs[b].size, costs[b].loss);
  });
  std::vector<std::size_t> front;
  double best = std::numeric_limits<double>::infinity();
  for (const std::size_t i : order)
    if (costs[i].loss < best) {
      best = costs[i].loss;
      front.push_back(i);
    }
  return front;
}

}  // namespace calque::report
