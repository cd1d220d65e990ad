#include "cli/job_draft.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/core/paths.h"
#include "calque/core/quote.h"
#include "calque/formats/format.h"
#include "calque/formats/source.h"
#include "calque/io/hub_cache.h"
#include "calque/job/builtin_texts.h"
#include "calque/job/check_job.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNoText = "none";  // --calibration none

// ---- Choices

// "Qwen3-8B" for Qwen3-8B-BF16.gguf.
std::string without_type(std::string name) {
  for (const std::string_view type : {"F16", "BF16", "F32", "f16", "bf16", "f32"})
    for (const char mark : {'-', '.'})
      if (const std::string ending = mark + std::string(type); name.ends_with(ending))
        return name.substr(0, name.size() - ending.size());
  return name;
}

std::vector<Target> chosen_targets(const DraftOptions& options, const std::string& architecture) {
  std::vector<std::string> names = options.targets;
  if (names.empty() && !options.runtime.empty())
    names.emplace_back(runtime_named(options.runtime).usual);
  if (names.empty()) names.emplace_back(architecture.empty() ? "gptq-4bit" : kUsualTarget);
  std::vector<Target> targets;
  for (const std::string& name : names) {
    const Target target = target_named(name);
    if (std::ranges::find(targets, target.name, &Target::name) == targets.end())
      targets.push_back(target);
  }
  return targets;
}

// A method for all targets instead of their own.
void take_method(const DraftOptions& options, std::vector<Target>& targets) {
  if (options.method.empty()) return;
  if (options.has_size() && options.method != "gptq")
    throw Error(
        ErrorKind::kConfig, "E119",
        fmt::format("a size is met by gptq; leave out --method {}, or the size", options.method));
  for (Target& target : targets) target.method = options.method;
}

// One job has one method, and one grid for folders whose exports name no scheme.
void check_together(const std::vector<Target>& targets) {
  const Target* first = nullptr;
  for (const Target& target : targets) {
    if (target.is_file()) continue;
    const bool same_grid = first == nullptr || !first->scheme.empty() || !target.scheme.empty() ||
                           (first->bits == target.bits && first->group_size == target.group_size);
    if (first != nullptr && (first->method != target.method || !same_grid))
      throw Error(ErrorKind::kConfig, "E119",
                  fmt::format("{} and {} are rounded differently, so one job cannot make both; run "
                              "calque quantize once for each",
                              first->name, target.name));
    if (first == nullptr || !first->scheme.empty()) first = &target;
  }
}

void check_loads(const std::vector<Target>& targets, const std::string& runtime) {
  if (runtime.empty()) return;
  const Runtime& wanted = runtime_named(runtime);
  for (const Target& target : targets)
    if (target.loads_in.find(wanted.label) == std::string::npos)
      throw Error(
          ErrorKind::kConfig, "E119",
          fmt::format("{} does not load {}, which is for {}. Leave out --for, or the "
                      "target: {} then gives {}",
                      wanted.label, target.name, target.loads_in, wanted.label, wanted.usual));
}

// A size of its own instead of the target's: "-3.2bpw.gguf", "-GPTQ-4.5GiB".
void take_size(const DraftOptions& options, std::vector<Target>& targets) {
  if (!options.has_size()) return;
  const Target& target = targets.front();
  if (targets.size() > 1)
    throw Error(ErrorKind::kConfig, "E119",
                fmt::format("a size is for one target, and there are {}; run calque quantize once "
                            "for each",
                            targets.size()));
  if (!target.scheme.empty() || target.method == "awq")
    throw Error(ErrorKind::kConfig, "E119",
                fmt::format("{} has one width for all matrices, so no other size can be met. Use "
                            "gptq-4bit, w4a16 or a GGUF type with --target-bpw or --target-size",
                            target.name));
  const std::string size =
      options.target_bpw.empty() ? options.target_size : options.target_bpw + "bpw";
  targets.front().ending =
      target.is_file()
          ? fmt::format("-{}.gguf", size)
          : fmt::format("-{}-{}", formats::format_named(target.format).short_label, size);
  targets.front().method = "gptq";
}

// Channel scales if a target is made with them, no feedback if no target needs text.
std::string method_for(const DraftOptions& options, const std::vector<Target>& targets,
                       bool without_text) {
  if (without_text && !options.method.empty() && options.method != "rtn")
    throw Error(ErrorKind::kConfig, "E119",
                fmt::format("method {} measures inputs on text; leave out --calibration none",
                            options.method));
  if (!options.method.empty()) return options.method;
  std::string method = "rtn";
  for (const Target& target : targets) {
    if (without_text && target.method == "awq")
      throw Error(ErrorKind::kConfig, "E119",
                  "awq measures its channel scales on text; leave out --calibration none");
    if (target.method == "awq" || (method == "rtn" && !without_text)) method = target.method;
  }
  return method;
}

bool has_folder(const JobDraft& draft) {
  return std::ranges::any_of(draft.targets, [](const Target& t) { return !t.is_file(); });
}
bool has_file(const JobDraft& draft) {
  return std::ranges::any_of(draft.targets, &Target::is_file);
}

// The group size of the folders' targets, which are of one grid.
std::int64_t wanted_group_size(const JobDraft& draft) {
  for (const Target& target : draft.targets)
    if (!target.is_file() && target.scheme.empty()) return target.group_size;
  return JobDraft{}.group_size;
}

// Changes the draft so that the plan is not refused for the same reason again; false: it cannot.
bool amend(JobDraft& draft, const Error& error) {
  if (error.code() == "E131" && draft.group_size > 32) {
    draft.group_size /= 2;
    return true;
  }
  if (error.code() == "E132" && has_file(draft) && !draft.shape_fallback) {
    draft.shape_fallback = true;
    draft.notes.emplace_back(
        "some rows are no multiple of 256, so these matrices take the larger type that llama.cpp "
        "takes, too");
    return true;
  }
  return false;
}

// The plans of all exports, from headers; other faults show when the job is opened.
void settle(JobDraft& draft, const formats::SourceModel& source) {
  for (;;) {
    const job::Job job = job_of(draft, Detail::kChosen);
    formats::QuantizationRequest quantization = job.quantization.grid;
    quantization.calibrated = job.calibration.given();
    try {
      for (const formats::ExportRequest& request : job.exports)
        formats::plan_export(source.family, *source.weights, quantization, request);
      break;
    } catch (const Error& error) {
      if (!amend(draft, error)) throw;
    }
  }
  if (draft.group_size < wanted_group_size(draft) && has_folder(draft))
    draft.notes.push_back(
        fmt::format("groups of {}, because larger ones do not divide the inputs of every matrix",
                    draft.group_size));
}

std::string joined_names(const std::vector<Target>& targets) {
  std::string names;
  for (const Target& target : targets) {
    const std::size_t gguf = target.ending.rfind(".gguf");
    names += target.ending.substr(0, gguf);
  }
  return names;
}

// ---- Text of the job file

// A scalar inside { }.
std::string yaml_value(const std::string& text) {
  const bool plain = !text.empty() &&
                     (std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '/') &&
                     std::ranges::all_of(text, [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '/' || c == '.' || c == '_' ||
                              c == '-' || c == '@' || c == '+';
                     });
  return plain ? text : yaml_quoted(text);
}

bool is_tokens(const std::string& file) { return file.ends_with(".safetensors"); }

class JobWriter {
 public:
  JobWriter(const JobDraft& draft, Detail detail) : draft_(draft), detail_(detail) {}

  std::string text() {
    head();
    if (draft_.needs_text()) calibration();
    quantization();
    exports();
    runtime();
    evaluation();
    publish();
    return std::move(text_);
  }

 private:
  bool all() const { return detail_ == Detail::kMainKeys; }
  // "  key: value      # meaning"
  void key(const std::string& line, const std::string& meaning) {
    text_ += meaning.empty() ? line + "\n" : fmt::format("{:<33} # {}\n", line, meaning);
  }
  // A key at its default, for those who want to change it.
  void more(const std::string& line, const std::string& meaning) {
    if (all()) key(line, meaning);
  }
  void section(const std::string& name) { text_ += "\n" + name + ":\n"; }

  void head() {
    text_ += fmt::format("# Written by: {}\n# To run it: calque run {}\n", draft_.command,
                         shell_quoted(draft_.file.filename()));
    text_ += "# Every key: calque schema. Paths are relative to this file.\nversion: 1\n";
    key("name: " + yaml_value(draft_.name()), "");
    key(fmt::format("model: {{path: {}}}", yaml_value(draft_.model.written)), "");
  }

  void calibration() {
    const DraftOptions& o = draft_.options;
    section("calibration");
    key(fmt::format("  n_samples: {}", draft_.samples), "rows of text");
    key(fmt::format("  seqlen: {}", o.seqlen), "tokens per row");
    more("  seed: 0", "of the choice of rows");
    more("  packing: concat", "documents joined; truncate, pad: one row per document");
    if (draft_.may_fall_back > 0)
      key("  experts: routed", "all: every token reaches every expert, which takes longer");
    if (o.calibration.size() == 1 && is_tokens(o.calibration.front()))
      return key("  tokens: " + absolute(o.calibration.front()), "");
    if (o.calibration.empty())
      return key("  sources: [builtin]", "calque's own texts; yours: [{path: FILE}, ...]");
    text_ += "  sources:\n";
    for (const std::string& file : o.calibration)
      text_ += job::is_builtin(file) ? fmt::format("    - {}\n", file)
                                     : fmt::format("    - {{path: {}}}\n", absolute(file));
  }

  void quantization() {
    section("quantization");
    key("  method: " + draft_.method, method_meaning());
    if (const std::string& preset = draft_.options.preset; !preset.empty())
      key("  preset: " + preset, "how much work is spent on quality");
    else
      more("  preset: balanced", "how much work is spent on quality: fast, balanced, best");
    const auto folder = std::ranges::find_if(
        draft_.targets, [](auto& t) { return !t.is_file() && t.scheme.empty(); });
    const DraftOptions& o = draft_.options;
    if (!o.target_bpw.empty())
      key("  target_bpw: " + o.target_bpw, "bits per weight of the file; each matrix has its own");
    if (!o.target_size.empty())
      key("  target_size: " + o.target_size, "of the weights files; each matrix has its own bits");
    if (folder != draft_.targets.end()) {
      if (!o.has_size()) key(fmt::format("  bits: {}", folder->bits), "per weight, without scales");
      key(fmt::format("  group_size: {}", draft_.group_size), "inputs that share a scale");
      key(fmt::format("  sym: {}", folder->sym),
          folder->sym ? "no zero points" : "with zero points");
      more("  rules: []", "settings of single modules: [{match: \"*.down_proj\", bits: 8}]");
    }
    if (draft_.needs_text()) {
      more("  propagate_error: true", "later layers see the errors of earlier ones");
      more("  upstream_correction: auto", "and correct them, as preset says");
    }
    if (draft_.may_fall_back > 0)
      key(fmt::format("  fallback: {{max_modules: {}}}", draft_.may_fall_back),
          "experts that no token reaches are rounded to nearest");
  }

  std::string method_meaning() const {
    if (draft_.method == "rtn") return "round to nearest; needs no text";
    if (draft_.method == "smoothquant") return "input channels of one size, then GPTQ's rounding";
    if (draft_.method == "awq") return "AWQ's channel scales, then GPTQ's rounding";
    return "GPTQ: each column's error moves onto the next";
  }

  void exports() {
    section("export");
    for (const Target& target : draft_.targets) {
      std::string entry = fmt::format("format: {}, path: {}", target.format,
                                      yaml_value(draft_.artifact(target).filename().string()));
      if (target.is_file()) {
        entry += ", type: " + target.type;
        if (draft_.shape_fallback) entry += ", on_shape_fallback: allow";
      }
      if (!target.scheme.empty()) entry += ", scheme: " + target.scheme;
      if (!target.is_file() && !draft_.require.empty()) {
        entry += fmt::format(", require: {{{}: true}}", draft_.require);
      }
      text_ += fmt::format("  - {{{}, overwrite: true}}\n", entry);
    }
  }

  void runtime() {
    const DraftOptions& o = draft_.options;
    if (!all() && o.max_ram.empty() && o.threads == 0) return;
    section("runtime");
    if (all() || o.threads > 0)
      key(fmt::format("  threads: {}", o.threads > 0 ? std::to_string(o.threads) : "auto"),
          "results do not depend on it");
    if (all() || !o.max_ram.empty())
      key("  max_ram: " + (o.max_ram.empty() ? "0" : o.max_ram),
          "6GiB: activations beyond it go to files; 0: no limit");
    more("  device: auto", "cpu, cuda:0; runtime.stages chooses it for each stage");
  }

  void evaluation() {
    std::string file = draft_.options.evaluation;
    if (file.empty() && all()) file = job::builtin_heldout_text().string();
    if (file.empty()) return;
    section("evaluate");
    key(fmt::format("  texts: [{{{}: {}}}]", is_tokens(file) ? "tokens" : "text", absolute(file)),
        all() ? "without this section nothing is evaluated" : "");
    key(fmt::format("  seqlen: {}", draft_.options.seqlen), "tokens per window");
    key("  windows: 40", "from the start of the text; 0: all");
  }

  void publish() {
    if (has_folder(draft_) && all()) {
      section("publish");
      key("  base_model: null", "org/name of the original, for the model card");
      key("  quantized_by: null", "your name");
    }
    text_ += fmt::format("\nrun_dir: {}\n", yaml_value("runs/" + draft_.name()));
  }

  static std::string absolute(const std::string& file) {
    return yaml_value(fs::absolute(file).lexically_normal().string());
  }

  const JobDraft& draft_;
  Detail detail_;
  std::string text_;
};

}  // namespace

ModelChoice choose_model(const std::string& text) {
  ModelChoice choice;
  const bool is_path = fs::exists(text);
  if (!is_path && !io::is_hub_name(text))
    throw Error(ErrorKind::kInput, "E178",
                fmt::format("there is no '{}'. MODEL is a folder, a GGUF file, or org/name of a "
                            "model that `hf download org/name` has fetched",
                            printable(text)));
  choice.path = without_end_slash(fs::absolute(io::path_of_model(text)));
  job::check_model({.path = choice.path});
  const bool by_name = !is_path && fs::is_directory(choice.path);
  choice.written = by_name ? io::hub_model_of(choice.path)->text() : choice.path.string();
  choice.name = without_type(io::name_of_model(choice.path));
  return choice;
}

fs::path JobDraft::artifact(const Target& target) const {
  return file.parent_path() / (model.name + target.ending);
}

JobDraft make_draft(const DraftOptions& options, const fs::path& folder) {
  JobDraft draft;
  draft.model = choose_model(options.model);
  draft.options = options;
  if (options.samples > 0) draft.samples = options.samples;
  const formats::SourceModel source(draft.model.path);
  const model::FamilySpec& family = source.family;
  draft.targets = chosen_targets(options, family.gguf_architecture);
  take_method(options, draft.targets);
  check_together(draft.targets);
  take_size(options, draft.targets);
  check_loads(draft.targets, options.runtime);
  draft.group_size = wanted_group_size(draft);
  const bool without_text = options.calibration == std::vector<std::string>{kNoText};
  draft.method = method_for(options, draft.targets, without_text);
  if (!options.runtime.empty()) draft.require = runtime_named(options.runtime).requires_;
  if (family.config.max_positions > 0)
    draft.options.seqlen = std::min<std::int64_t>(options.seqlen, family.config.max_positions);
  if (draft.needs_text() && family.config.num_experts > 0)
    draft.may_fall_back = 3 * family.config.num_layers * family.config.num_experts;
  draft.file = fs::absolute(folder).lexically_normal() /
               (draft.model.name + joined_names(draft.targets) + ".yaml");
  settle(draft, source);
  return draft;
}

void fit_to_text(JobDraft& draft, const pipeline::OpenedJob& opened) {
  const job::CalibrationSettings& calibration = opened.job.calibration;
  if (calibration.sources.empty()) return;
  const std::int64_t rows = text::rows_available(calibration.sources, opened.tokens.tokenizer(),
                                                 calibration.packing, opened.job.model.path);
  if (rows >= draft.samples) return;
  if (rows == 0 || draft.options.samples > 0)  // says what is missing
    opened.tokens.calibration(calibration, opened.source.family.config.vocab_size);
  draft.notes.push_back(fmt::format("the text gives {} rows of {} tokens; {} would be better", rows,
                                    calibration.packing.seqlen, draft.samples));
  draft.samples = rows;
}

std::string job_text(const JobDraft& draft, Detail detail) {
  return JobWriter(draft, detail).text();
}

job::Job job_of(const JobDraft& draft, Detail detail) {
  return config::read_job(job_text(draft, detail), draft.file);
}

}  // namespace calque::cli
