#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/job/job.h"
#include "calque/pipeline/open_job.h"
#include "cli/targets.h"

namespace calque::cli {

// A model as the command line names it.
struct ModelChoice {
  std::filesystem::path path;  // its folder or file
  std::string written;         // model.path of the job file: absolute, or "org/name@hash"
  std::string name;            // "Qwen3-8B", for names of artifacts
};
// An existing path, or a name in the Hugging Face cache. Errors as job::check_model.
ModelChoice choose_model(const std::string& text);

inline constexpr std::int64_t kUsualSamples = 256;

// The options that `calque quantize` and `calque init` share.
struct DraftOptions {
  std::string model;
  std::vector<std::string> targets;
  std::string runtime;                   // a Runtime's name; "": none
  std::vector<std::string> calibration;  // files; {"none"}: no text
  std::int64_t samples = 0;              // 0: kUsualSamples, or fewer if the text is short
  std::int64_t seqlen = 512;
  std::string method;  // quantization.method; "": the targets' own
  std::string preset;  // quantization.preset; "": the default
  // A size as a target, as quantization.target_bpw or target_size has it; "": the target's own.
  std::string target_bpw;
  std::string target_size;
  std::string max_ram;
  int threads = 0;
  std::string evaluation;  // a text; "": none

  bool has_size() const { return !target_bpw.empty() || !target_size.empty(); }
};

// A job file in the making, for one model and one or more targets.
struct JobDraft {
  ModelChoice model;
  std::vector<Target> targets;
  std::filesystem::path file;  // the job file; artifacts lie beside it
  DraftOptions options;
  std::string command;                   // that made it, for the first line
  std::string require;                   // key of export.require; "": none
  std::string method;                    // quantization.method
  std::int64_t samples = kUsualSamples;  // calibration.n_samples
  std::int64_t group_size = 128;
  bool shape_fallback = false;     // export.on_shape_fallback: allow
  std::int64_t may_fall_back = 0;  // quantization.fallback.max_modules
  std::vector<std::string> notes;  // choices that the model made necessary

  bool needs_text() const { return method != "rtn"; }
  std::string name() const { return file.stem().string(); }
  std::filesystem::path artifact(const Target& target) const;
};

// Chooses format and settings for the model: from its headers, and from what a first plan refuses.
// Error(kConfig, "E119") for targets that are unknown, or that one job cannot make together.
JobDraft make_draft(const DraftOptions& options, const std::filesystem::path& folder);

// Lowers the number of rows to what the text gives, unless --samples asked for more, which is
// refused when the job runs.
void fit_to_text(JobDraft& draft, const pipeline::OpenedJob& opened);

enum class Detail {
  kChosen,   // the keys that were chosen
  kMainKeys  // every main key with its meaning
};
std::string job_text(const JobDraft& draft, Detail detail);
job::Job job_of(const JobDraft& draft, Detail detail);

}  // namespace calque::cli
