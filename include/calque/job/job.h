#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/presets.h"
#include "calque/quant/methods.h"
#include "calque/record/stages.h"
#include "calque/text/corpus.h"
#include "calque/text/questions.h"

namespace calque::job {

// The settings of a job file as plain structs. Paths are already resolved against the file's
// folder. configs/README.md documents each key; src/config maps YAML to these structs.

struct ModelSettings {
  std::filesystem::path path;     // Hugging Face folder, or GGUF file
  std::string hub_name;           // "org/name" if `path` was written so and did not exist; else ""
  bool allow_requantize = false;  // accept a GGUF file that is quantized already
};

struct CalibrationSettings {
  std::vector<text::TextSource>
      sources;                   // exactly one of sources and tokens, unless the method needs none
  std::filesystem::path tokens;  // pre-tokenized ids
  text::PackingOptions packing{.n_samples = 128, .seqlen = 512};
  std::filesystem::path save_imatrix;  // file for the statistics (io/imatrix.h); "": not written
  // Tokens that experts' statistics are taken over: those that the router sends to each, or all.
  enum class Experts { kRouted, kAll };
  Experts experts = Experts::kRouted;

  bool given() const { return !sources.empty() || !tokens.empty(); }
  std::vector<std::string> file_names() const;  // the texts' names in records
};

// A size as a target: every matrix gets bits, or a GGUF type, of its own (job/allocation.h).
struct AllocationSettings {
  enum class Sensitivity {
    kMeasured,  // the divergence of the original with one part rounded, part by part
    kLayer,     // the error of each linear's outputs
  };

  std::optional<double> target_bpw;  // bits per weight of the file (ExportPlan::bits_per_weight)
  std::uint64_t target_size = 0;     // bytes of the weights files, at most; 0: not given
  std::vector<std::string> options;  // bits ("3") or GGUF types ("Q3_K"); empty: those around it
  Sensitivity sensitivity = Sensitivity::kMeasured;
  std::int64_t samples = 32;  // rows of calibration text that errors are measured on
  std::int64_t windows = 8;   // those that the divergence is measured on

  bool wanted() const { return target_bpw.has_value() || target_size > 0; }
};

struct QuantizationSettings {
  // The method: a pair of rows from quant/methods.h, never null.
  const quant::Transform* transform = &quant::kNoTransform;
  const quant::Rounding* rounding = &quant::kGptq;
  quant::AwqOptions awq;  // settings of the AWQ transform
  quant::SmoothQuantOptions smoothquant;
  quant::RoundingOptions options;       // settings of the rounding; `scale_rule` overrides theirs
  std::optional<ScaleRule> scale_rule;  // nullopt: the transform's
  std::optional<int> refine_passes;     // likewise; nullopt: the preset's
  formats::QuantizationRequest grid;
  AllocationSettings allocation;
  const Preset* preset = &kBalanced;  // gives `auto` its meaning; never null
  bool propagate_error = true;        // false: statistics from the unquantized model
  // Share of the upstream rounding error that each linear compensates (quant/upstream.h), 0..1;
  // nullopt: 1 in passes that can and have codes of few bits (Preset), else 0.
  std::optional<double> upstream_correction;
  Index fallback_max_modules = 0;  // the job fails if more modules than this fall back to RTN

  // Short name of the pair: "gptq", "rtn", or the transform's name.
  std::string method() const { return std::string(quant::method_name(*transform, *rounding)); }
  // Sets the pair that `name` stands for; Error(kConfig, "E112") if there is none.
  void set_method(std::string_view name);
  bool needs_text() const { return transform->needs_text || rounding->needs_text; }
  // True if candidates are measured by the whole attention's or MLP's output (awq.loss: output).
  bool measures_outputs() const {
    return transform->tries_candidates && awq.loss == quant::AwqLoss::kOutput;
  }
  // Options for linears with statistics, and for matrices without (no transform has changed those).
  quant::RoundingOptions rounding_options() const;
  quant::RoundingOptions plain_options() const;

  // An importance matrix measured earlier (io/imatrix.h), used instead of calibration text; only
  // for method rtn and exports to GGUF.
  std::filesystem::path imatrix;
};

// Files added to an exported folder so that it can be uploaded as it is.
struct PublishSettings {
  bool model_card = true;  // README.md
  std::string base_model;  // "org/name" on a model hub; "": the source folder's name
  std::string license =
      "inherit";             // "inherit": from the source's card or LICENSE; else an identifier
  std::string quantized_by;  // "": not written
  bool checksums = true;     // SHA256SUMS
};

using record::StageDevices;

struct RuntimeSettings {
  int threads = 0;                     // 0: all that the process may use
  std::string forward_dtype = "auto";  // auto | float32 | bfloat16
  std::string device = "auto";         // device of every stage that `stages` does not name
  StageDevices stages;
  // Limit on the job's resident memory in bytes; 0: none. Activations beyond it go to files in
  // offload_dir ("": the run folder).
  std::uint64_t max_ram = 0;
  std::filesystem::path offload_dir;
  // State saved in run_dir/state: "block" (after every block), "auto" (often enough to lose little,
  // rarely enough to cost a small share of the time), "off".
  std::string checkpoint = "auto";
};

// One named text of an evaluation.
struct EvaluationText {
  std::string name;  // letters, digits, - and _; "": the file's name without its extension
  std::filesystem::path text;  // exactly one of text and tokens
  std::filesystem::path tokens;
  std::optional<std::int64_t> windows;  // nullopt: the section's number
  text::ChatSettings chat = {};

  const std::filesystem::path& file() const { return text.empty() ? tokens : text; }
};

// A precision of the key/value cache (eval/kv_cache.h).
struct KvCacheSettings {
  std::string name;    // "": derived from the fields below
  std::string k_type;  // "": not rounded
  std::string v_type;
  std::string layers;  // "0-3,7"; "": all
};

// Questions with right answers (text/questions.h), asked of every model.
struct TaskSettings {
  std::string name;            // letters, digits, - and _; "": the file's name
  std::filesystem::path file;  // .jsonl
  std::int64_t limit = 0;      // questions, from the first; 0: all
  text::QuestionFormat format;
  // Multiple choice: "acc", "acc_norm" or "acc_bytes" (record/task.h), the one in short
  // results. "": acc_norm.
  std::string metric;
  // Answers that the model writes: longest, ends, and the part that counts.
  std::int64_t max_new_tokens = 32;
  std::vector<std::string> stop = {"\n"};
  std::string answer_pattern;  // its first group, or all of it, is the answer; "": the whole text
  bool last_match = false;     // the last of several matches counts, else the first
};

struct EvaluationSettings {
  std::vector<EvaluationText> texts;
  std::vector<TaskSettings> tasks;  // texts and tasks: at least one of both together
  std::int64_t seqlen = 512;
  std::int64_t windows = 40;  // 0: all full windows
  std::string dtype = "float32";
  // Says if windows begin with a BOS. nullopt: windows of a text begin with what the tokenizer puts
  // first, and token ids are read as they were given.
  std::optional<bool> add_bos;
  bool noise_floor = false;  // also evaluates the original model computed in bfloat16
  std::vector<KvCacheSettings> kv_cache;
  // Window lengths that kv_cache is measured at; 0: the longest that text and model allow. Empty:
  // seqlen and 0.
  std::vector<std::int64_t> kv_cache_seqlens;

  // The texts with their names and numbers of windows filled in.
  std::vector<EvaluationText> named_texts() const;
  // The tasks with their names filled in.
  std::vector<TaskSettings> named_tasks() const;
};

struct Job {
  std::string name;
  ModelSettings model;
  CalibrationSettings calibration;
  QuantizationSettings quantization;
  std::vector<formats::ExportRequest> exports;
  RuntimeSettings runtime;
  std::optional<EvaluationSettings> evaluate;
  PublishSettings publish;
  std::filesystem::path run_dir;  // holds modules.csv, log.jsonl, job.resolved.yaml, metrics.json
};

}  // namespace calque::job
