#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/quant/rounder.h"
#include "calque/record/allocation.h"
#include "calque/record/measurement.h"
#include "calque/record/stages.h"
#include "calque/record/task.h"
#include "calque/text/corpus.h"

namespace calque::record {

// One quantized matrix: a row of modules.csv.
struct ModuleReport {
  Index block = 0;     // -1: outside the blocks (embedding, head)
  std::string module;  // "model.layers.3.self_attn.q_proj"
  std::string role;    // "q_proj"; read from a file: "self_attn.q_proj"
  quant::Grid grid;    // read from a file: bits and group size only
  Index out_features = 0;
  Index in_features = 0;
  Index tokens = 0;            // calibration rows in its statistics
  Index nonfinite_tokens = 0;  // rows left out
  quant::RoundingReport rounding;
  double seconds = 0;
  double bits_per_weight = 0;  // scales and offsets included
  // Relative change of the weights by the upstream correction (quant/upstream.h). Losses and errors
  // are measured against the corrected weights. 0: not corrected.
  double upstream_shift = 0;
};

// Peak resident memory of one stage, as planned (forecast/memory_plan.h) and as measured (0: the
// kernel cannot tell stages apart).
struct StagePeak {
  std::string stage;
  std::uint64_t predicted_bytes = 0;
  std::uint64_t measured_bytes = 0;
};

// Predictions for the job: made before it started, the time again after the first block.
struct Predicted {
  double seconds = 0;        // 0: nothing was predicted
  std::string seconds_from;  // "estimate", "first block" (forecast/time.h)
  StageSeconds stages;
  std::uint64_t peak_bytes = 0;
  std::uint64_t disk_bytes = 0;
  std::vector<std::uint64_t> file_bytes;  // weights of each export, as ArtifactReport::file_bytes
};

// One export that was written.
struct ArtifactReport {
  formats::ExportPlan plan;
  std::uint64_t file_bytes = 0;
  double bits_per_weight = 0;  // all tensors: embeddings, head, scales, norms
  std::vector<ModuleReport> modules;

  std::string name() const { return plan.request.path.filename().string(); }
  const std::string& format() const { return plan.request.format; }
  std::string type() const;  // gguf: "Q4_K_M"
};

// Says how the windows of an evaluation begin.
struct WindowStart {
  bool as_given = false;               // token ids that were read as they are
  std::vector<std::int32_t> ids = {};  // the prefix, which is not scored; empty: none was put
  std::string text = {};               // the prefix as the vocabulary spells it: "<bos>"
};

// All models over the windows of one text.
struct EvaluationReport {
  std::string text;  // its name
  Index seqlen = 0;
  Index windows = 0;
  std::optional<WindowStart> begins_with = {};  // nullopt: a record of before that was said
  text::Manifest manifest;
  // The reference; its noise floor if asked for; the artifacts in order; then, for each rounding of
  // the key/value cache, the original and the artifacts again.
  std::vector<Measurement> models;

  const Measurement& reference() const { return models.front(); }
  // The model with keys and values at full precision; null: not measured.
  const Measurement* find(ModelKind kind) const;
  const Measurement* artifact(std::size_t index) const;
  const Measurement* artifact(const std::string& label) const;
};

// Says which tokens of a window are predicted and what the windows begin with: "all of every
// window, which begins with <bos> (not scored)". `shown`: the prefix as it is to be printed.
std::string predictions_text(const EvaluationReport& evaluation, const std::string& shown);

struct Report {
  std::string job_name;
  std::string calque_version;  // in a report read from a file: the version that wrote it
  std::string source_name;     // name of the model's folder or file
  int threads = 0;
  text::Manifest calibration;
  std::vector<ArtifactReport> artifacts;
  // The first is the main one: the first text at evaluate.seqlen. Then come the other texts, then
  // the longer windows for the key/value cache. Empty: not evaluated.
  std::vector<EvaluationReport> evaluations;
  std::vector<TaskReport> tasks;   // in the order of evaluate.tasks
  Allocation allocation;           // met a target size; empty: there was none
  std::uint64_t source_bytes = 0;  // tensor data of the checkpoint
  double source_bits_per_weight = 0;
  std::string forward_dtype;    // resolved value of `auto`
  std::string instruction_set;  // the one that the CPU used (core/instruction_set.h)
  StageDevices stage_devices;   // device of each stage: "cpu", "cuda:0"
  StageSeconds stages;
  double seconds = 0;
  std::uint64_t peak_bytes = 0;  // resident set, from the kernel
  std::uint64_t predicted_peak_bytes = 0;
  std::uint64_t activation_file_bytes = 0;  // peak size of activations in files
  std::vector<StagePeak> stage_peaks;
  Predicted predicted;
  std::vector<std::string> shared;  // taken from other jobs: "tokens", "statistics"
  std::vector<std::string> warnings;
  int resumed = 0;  // number of times the run was resumed
};

}  // namespace calque::record
