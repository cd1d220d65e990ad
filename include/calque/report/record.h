#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace calque::report {

// What runs and sweeps leave in their folders, read back. Files of another calque may lack fields:
// what is absent stays at its default (0, empty, nullopt), what is damaged is an Error.

struct Estimate {
  double value = 0;
  double uncertainty = 0;  // one standard error; 0: not known
};

// Tokens by KL divergence: bin i holds 10^(log10_first + i log10_step) up to the next, the first
// and the last also what lies beyond.
struct Histogram {
  double log10_first = 0;
  double log10_step = 0;
  std::vector<std::uint64_t> counts;
};

// A percentile of KL divergence, with its 95 % interval where that was computed.
struct Percentile {
  double value = 0;
  std::optional<std::array<double, 2>> interval;
};

// KL divergence in nats, original against model; top-1 agreement as a fraction.
struct Divergence {
  Estimate kl_mean;
  double kl_mean_sd = 0;  // over replicates; 0: one run
  Percentile kl_median, kl_p90, kl_p99, kl_p999;
  double kl_max = 0;
  Estimate top1_agreement;
  double rms_delta_p = 0;
  Histogram histogram;  // without counts: not kept
};

enum class ModelKind { kReference, kNoiseFloor, kArtifact };

struct ModelResult {
  std::string label;
  ModelKind kind = ModelKind::kArtifact;
  std::string kv_cache;  // "": at full precision
  std::uint64_t kv_cache_bytes = 0;
  Estimate perplexity;  // as Hugging Face counts
  std::uint64_t predictions = 0;
  std::optional<Divergence> divergence;  // none: the reference
};

struct SourceFile {
  std::string path;
  std::string sha256;
  std::uint64_t tokens = 0;
  std::uint64_t rows_used = 0;
};

// Which tokens were used: equal `tokens_sha256` means the same ids in the same windows.
struct TokenRecord {
  std::string tokenizer;
  std::string tokens_sha256;
  std::vector<SourceFile> sources;
};

// One text at one length.
struct Evaluation {
  std::string text;
  std::int64_t seqlen = 0;
  std::int64_t windows = 0;
  TokenRecord tokens;
  std::vector<ModelResult> models;

  const ModelResult* reference() const;    // the original at full precision; null: not evaluated
  const ModelResult* noise_floor() const;  // likewise
  // At full precision of keys and values.
  const ModelResult* artifact(const std::string& label) const;
};

struct Artifact {
  std::string name;
  std::string format;
  std::string type;  // gguf: "Q4_K_M"
  std::uint64_t tensor_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t predicted_file_bytes = 0;
  double bits_per_weight = 0;  // everything counts: embeddings, head, scales, norms
};

// A row of modules.csv.
struct Module {
  int block = 0;  // -1: outside the blocks
  std::string name;
  std::string role;  // what follows "layers.N." in the name, without experts' numbers
  std::string method;
  int bits = 0;
  std::int64_t group_size = 0;
  double bits_per_weight = 0;
  double rel_error = 0;
  double seconds = 0;
  std::string fallback_reason;
};

struct StageTime {
  std::string stage;
  double measured = 0;   // seconds
  double predicted = 0;  // 0: not predicted
};

struct StageMemory {
  std::string stage;
  std::uint64_t measured = 0;  // bytes
  std::uint64_t predicted = 0;
};

// A run folder.
struct Run {
  std::filesystem::path folder;
  std::string name;
  bool finished = false;  // there is metrics.json; else only the name, the job and modules so far
  std::string calque_version;
  int threads = 0;
  int resumed = 0;  // times
  std::vector<std::string> shared;
  std::string source_name;  // of the model's folder; "": not recorded
  std::uint64_t source_bytes = 0;
  double source_bits_per_weight = 0;
  std::vector<Artifact> artifacts;
  std::vector<Evaluation> evaluations;  // the main one first
  TokenRecord calibration;
  // Passes over the model in the order they ran, each with its modules; exports that agree on all
  // grids share one.
  std::vector<std::vector<Module>> passes;
  std::vector<StageTime> times;
  std::vector<StageMemory> memory;
  double seconds = 0;
  double predicted_seconds = 0;
  std::string seconds_from;  // how the prediction was made
  std::uint64_t peak_bytes = 0;
  std::uint64_t predicted_peak_bytes = 0;
  std::uint64_t predicted_disk_bytes = 0;
  std::string forward_dtype;
  std::vector<std::pair<std::string, std::string>> stage_devices;
  std::vector<std::string> warnings;
  std::string resolved_job;  // YAML text

  // The pass that made artifact `i`: known where each had its own, or all one. Null: not known.
  const std::vector<Module>* pass_of(std::size_t i) const;
};

// One row of results.csv.
struct SweepPoint {
  int number = 0;
  std::string hash;
  std::string status;  // "done", "failed", "pending"
  std::string error;
  std::map<std::string, std::string> cells;  // every column by its title
  std::string cell(const std::string& column) const;
  double number_in(const std::string& column) const;  // 0: empty
};

// A sweep folder.
struct Sweep {
  std::filesystem::path folder;
  std::string name;
  std::vector<std::string> swept;  // keys, by their paths
  std::vector<std::string> texts;  // the main one first
  std::vector<SweepPoint> points;
  double saved_seconds = 0;      // by sharing, as runs.csv has it; 0: not known
  std::string resolved;          // YAML text
  std::optional<Run> first_run;  // of the points that are done: versions, data, hashes
};

enum class FolderKind { kRun, kSweep };

// What `folder` is, by the files in it: a run folder, a sweep folder, or an artifact folder that
// carries its run's record (calque/metrics.json), which counts as a run. Error(kInput, "E251") if
// it is neither.
FolderKind kind_of(const std::filesystem::path& folder);

// Error(kInput, "E252") names a damaged file, the place in it, and what to do.
Run load_run(const std::filesystem::path& folder);
Sweep load_sweep(const std::filesystem::path& folder);

}  // namespace calque::report
