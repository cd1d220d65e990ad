#include "publish/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <sstream>

#include "calque/core/paths.h"
#include "calque/core/quote.h"
#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "calque/io/hub_cache.h"

namespace calque::publish {
namespace {

namespace fs = std::filesystem;

// True if a YAML value or a word of a message may begin here.
bool begins_value(const std::string& text, std::size_t at) {
  if (at == 0) return true;
  const char before = text[at - 1];
  return std::isspace(static_cast<unsigned char>(before)) != 0 || before == '"' || before == '\'' ||
         before == '[' || before == '{' || before == ',' || before == '(';
}

std::size_t end_of_path(const std::string& text, std::size_t at) {
  const char before = at == 0 ? '\n' : text[at - 1];
  const bool quoted = before == '"' || before == '\'';
  for (std::size_t end = at; end < text.size(); ++end) {
    const char c = text[end];
    if (quoted && c == '\\' && before == '"') {
      ++end;
      continue;
    }
    if (quoted ? c == before : c == '\n' || c == ',' || c == ']' || c == '}') return end;
  }
  return text.size();
}

// A snapshot of the Hugging Face cache is named as on the hub.
std::string last_part(std::string path) {
  if (const auto hub = io::hub_model_of(path); hub && path.ends_with(hub->revision))
    return hub->text();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::string part = path.substr(path.rfind('/') + 1);
  return part.empty() ? "." : part;
}

// Identifiers ("apache-2.0") need no quotes in YAML.
std::string yaml_plain_or_quoted(const std::string& text) {
  const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
                     });
  return plain ? text : yaml_quoted(text);
}

std::string base_model(const job::Job& job) {
  if (!job.publish.base_model.empty()) return job.publish.base_model;
  const auto hub = io::hub_model_of(job.model.path);
  return hub ? hub->name : last_name(job.model.path);
}

std::set<int> bits_of(const formats::ExportPlan& plan) {
  std::set<int> bits;
  for (const formats::TensorPlan& tensor : plan.tensors)
    if (tensor.grid) bits.insert(tensor.grid->bits);
  return bits;
}

// As the source's card says it: one licence, or a list; a licence of its own has a name and a link.
std::string license_lines(const SourceLicense& source) {
  std::string text = "license:";
  if (source.ids.size() == 1) text += " " + yaml_plain_or_quoted(source.ids.front());
  for (std::size_t i = 0; source.ids.size() > 1 && i < source.ids.size(); ++i)
    text += "\n- " + yaml_plain_or_quoted(source.ids[i]);
  text += "\n";
  if (!source.name.empty()) text += "license_name: " + yaml_plain_or_quoted(source.name) + "\n";
  if (!source.link.empty()) text += "license_link: " + yaml_plain_or_quoted(source.link) + "\n";
  return text;
}

std::string license_lines(const job::Job& job) {
  if (job.publish.license != "inherit")
    return fmt::format("license: {}\n", yaml_quoted(job.publish.license));
  const SourceLicense source = license_of(job.model.path);
  if (!source.ids.empty()) return license_lines(source);
  if (source.file.empty()) return "";
  return fmt::format("license: other\nlicense_name: see-license-file\nlicense_link: {}\n",
                     source.file);
}

std::string front_matter(const formats::ExportPlan& plan, const job::Job& job) {
  std::string text = fmt::format("---\nbase_model: {}\nbase_model_relation: quantized\n",
                                 yaml_quoted(base_model(job)));
  text += license_lines(job);
  text += "library_name: transformers\npipeline_tag: text-generation\ntags:\n";
  text += fmt::format("- {}\n- calque\n", plan.request.format);
  for (const int bits : bits_of(plan)) text += fmt::format("- {}-bit\n", bits);
  if (!job.publish.quantized_by.empty())
    text += fmt::format("quantized_by: {}\n", yaml_quoted(job.publish.quantized_by));
  return text + "---\n";
}

std::string size_text(std::uint64_t bytes) {
  return fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6);
}

std::string files_table(const formats::ExportPlan& plan) {
  std::map<std::string, std::uint64_t> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(plan.request.path, ignored))
    if (entry.path().extension() == ".safetensors")
      files[entry.path().filename().string()] = entry.file_size();
  std::string text = "| file | size |\n|---|---|\n";
  for (const auto& [name, bytes] : files)
    text += fmt::format("| {} | {} |\n", name, size_text(bytes));
  return text;
}

std::string tensors_table(const formats::ExportPlan& plan) {
  std::map<std::string, std::pair<std::size_t, std::uint64_t>> kinds;
  for (const formats::TensorPlan& tensor : plan.tensors) {
    auto& [count, bytes] = kinds[tensor.stored_as];
    ++count;
    bytes += tensor.bytes;
  }
  std::string text = "| stored as | tensors | size |\n|---|---|---|\n";
  for (const auto& [kind, sums] : kinds)
    text += fmt::format("| {} | {} | {} |\n", kind, sums.first, size_text(sums.second));
  return text;
}

std::string sources_text(const text::Manifest& manifest) {
  std::vector<std::string> texts;
  for (const text::SourceReport& s : manifest.sources)
    texts.push_back(fmt::format("`{}`", fs::path(s.path).filename().string()));
  return texts.empty() ? "given tokens" : fmt::format("{}", fmt::join(texts, ", "));
}

// The table for one text.
std::string quality_table(const record::EvaluationReport& evaluation,
                          const record::Measurement& own) {
  const record::Measurement& source = evaluation.reference();
  std::string text = "| | original | this |\n|---|---|---|\n";
  text += fmt::format("| perplexity | {:.4f} ± {:.4f} | {:.4f} ± {:.4f} |\n",
                      source.perplexity_hf.value, source.perplexity_hf.uncertainty,
                      own.perplexity_hf.value, own.perplexity_hf.uncertainty);
  text += fmt::format("| KL divergence, mean (nats) | 0 | {:.5f} ± {:.5f} |\n",
                      own.divergence.kl_mean, own.divergence.kl_mean_uncertainty);
  text += fmt::format("| KL divergence, 99th percentile | 0 | {:.4f} |\n", own.divergence.kl_p99);
  text += fmt::format("| same most likely token | 100 % | {:.2f} % |\n",
                      100 * own.divergence.top1_agreement);
  return text +
         fmt::format("\nMeasured on the files of this folder: {} predictions on {}, {}.\n",
                     own.perplexity_hf.predictions, sources_text(evaluation.manifest),
                     record::predictions_text(
                         evaluation,
                         evaluation.begins_with ? "`" + evaluation.begins_with->text + "`" : ""));
}

// The table of all tasks by their main metrics; "" without any.
std::string tasks_table(const record::Report& report, std::size_t index) {
  std::string rows;
  for (const record::TaskReport& task : report.tasks) {
    const record::TaskMeasurement* own = task.artifact(report.artifacts[index].name());
    if (own == nullptr) continue;
    const std::string& before = *task.reference().find(task.metric);
    const std::string& now = *own->find(task.metric);
    const record::Share source = record::share_right(before), share = record::share_right(now);
    const record::PairedDifference d = record::paired_difference(before, now);
    rows += fmt::format(
        "| {}, {} ({} questions{}) | {:.2f} ± {:.2f} | {:.2f} ± {:.2f} | {:+.2f} ± {:.2f} | {:.3g} "
        "|\n",
        task.task, task.metric, task.questions,
        task.chance > 0 ? fmt::format(", chance {:.1f} %", 100 * task.chance) : "",
        100 * source.value, 100 * source.standard_error, 100 * share.value,
        100 * share.standard_error, 100 * d.value, 100 * d.standard_error, d.p_value);
  }
  if (rows.empty()) return "";
  return "| right answers, % | original | this | difference | p |\n|---|---|---|---|---|\n" + rows +
         "\n±: one standard error; that of the difference is paired. p: McNemar's exact test.\n";
}

std::string quality(const record::Report& report, std::size_t index) {
  std::string text;
  for (const record::EvaluationReport& evaluation : report.evaluations) {
    const record::Measurement* own = evaluation.artifact(index);
    if (own == nullptr || evaluation.seqlen != report.evaluations.front().seqlen) continue;
    text += (text.empty() ? "" : "\n") + quality_table(evaluation, *own);
  }
  const std::string tasks = tasks_table(report, index);
  if (!tasks.empty()) text += (text.empty() ? "" : "\n") + tasks;
  return text.empty() ? "Not measured when this was made.\n" : text;
}

std::string method_text(const job::Job& job) {
  const job::QuantizationSettings& q = job.quantization;
  if (!q.transform->rescales_channels()) return std::string(q.rounding->title);
  return fmt::format("{}, rounded by {}", q.transform->title, q.rounding->name);
}

std::string making(const job::Job& job, const std::string& resolved_yaml) {
  return fmt::format(
      "calque {}, method: {}. The job, with local folders left out:\n\n```yaml\n{}```\n",
      CALQUE_VERSION, method_text(job), without_local_paths(resolved_yaml));
}

std::string calibration(const record::Report& report) {
  const text::Manifest& manifest = report.calibration;
  if (manifest.sources.empty() && manifest.tokens_sha256.empty())
    return "None: the method needs no calibration text.\n";
  std::string text = "| file | SHA-256 | tokens | rows used |\n|---|---|---|---|\n";
  for (const text::SourceReport& s : manifest.sources)
    text += fmt::format("| {} | `{}` | {} | {} |\n", fs::path(s.path).filename().string(), s.sha256,
                        s.tokens, s.rows_used);
  if (!manifest.tokens_sha256.empty())
    text += fmt::format("\nSHA-256 of the token ids: `{}`\n", manifest.tokens_sha256);
  return text;
}

std::string limits(const record::Report& report, std::size_t index) {
  std::string text =
      "- Quantization changes the output of the model; only the results in the table above were "
      "measured.\n"
      "- The limits and biases of the original model remain.\n";
  const std::vector<record::ModuleReport>& modules = report.artifacts[index].modules;
  const auto fallbacks = std::count_if(
      modules.begin(), modules.end(),
      [](const record::ModuleReport& m) { return !m.rounding.fallback_reason.empty(); });
  if (fallbacks > 0)
    text += fmt::format("- {} of {} matrices fell back to rounding to nearest.\n", fallbacks,
                        modules.size());
  return text;
}

std::string license_text(const job::Job& job) {
  if (job.publish.license != "inherit")
    return job.publish.license + ", as stated by the publisher.\n";
  const SourceLicense source = license_of(job.model.path);
  const std::string name = source.name.empty() ? source.text() : source.name;
  if (!name.empty() && !source.file.empty())
    return fmt::format("{}, the same as the original; see {}.\n", name, source.file);
  if (!name.empty()) return name + ", the same as the original.\n";
  if (!source.file.empty())
    return fmt::format("The license of the original; see {}.\n", source.file);
  return "The source folder states no license; ask the authors of the original model.\n";
}

}  // namespace

std::string without_local_paths(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '/' || !begins_value(text, at)) {
      result += text[at++];
      continue;
    }
    const std::size_t end = end_of_path(text, at);
    result += last_part(text.substr(at, end - at));
    at = end;
  }
  return result;
}

std::string model_card(const record::Report& report, std::size_t artifact_index,
                       const job::Job& job, const std::string& resolved_yaml) {
  const record::ArtifactReport& artifact = report.artifacts[artifact_index];
  const formats::ExportPlan& plan = artifact.plan;
  std::string card = front_matter(plan, job);
  card += fmt::format("\n# {}\n\n", last_name(plan.request.path));
  card += fmt::format(
      "{} quantized to {} bits ({} format): {:.3f} bits per weight over all tensors, "
      "{} instead of {}.\n",
      base_model(job), fmt::join(bits_of(plan), ", "), plan.request.format,
      artifact.bits_per_weight, size_text(artifact.file_bytes), size_text(report.source_bytes));
  card += "\n## Files\n\n" + files_table(plan) + "\n" + tensors_table(plan);
  card += "\n## Quality\n\n" + quality(report, artifact_index);
  card += "\n## How to run\n\n" + formats::runtime_notes(plan);
  card += "\n## How it was made\n\n" + making(job, resolved_yaml);
  card += "\n## Calibration data\n\n" + calibration(report);
  card += "\n## Limits\n\n" + limits(report, artifact_index);
  card += "\n## License\n\n" + license_text(job);
  return card;
}

}  // namespace calque::publish
