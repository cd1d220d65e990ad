#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/forecast/time.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/job/builtin_texts.h"
#include "calque/pipeline/forecast_job.h"
#include "cli/commands.h"
#include "cli/job_draft.h"
#include "cli/job_draft_options.h"
#include "cli/run_job.h"
#include "cli/tables.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

namespace fs = std::filesystem;

struct QuantizeArguments {
  DraftOptions draft;
  std::string out = ".";
  std::string progress = "auto";
  bool quiet = false;
  bool json = false;
  bool dry_run = false;
  bool overwrite = false;
  resume::SavedRun* saved = nullptr;
};

// ---- The plan in a few lines

std::string shown(const fs::path& path) {
  const fs::path relative = path.lexically_proximate(fs::current_path());
  return printable(*relative.begin() == ".." ? path.string() : relative.string());
}

std::string calibration_text(const JobDraft& draft) {
  if (!draft.needs_text())
    return draft.options.calibration.empty()
               ? "no text needed: from 8 bits on, rounding to nearest is enough"
               : "none: every weight is rounded to nearest";
  const DraftOptions& o = draft.options;
  const std::string rows = fmt::format("{} x {} tokens", draft.samples, o.seqlen);
  if (!o.calibration.empty()) {
    std::vector<std::string> names;
    for (const std::string& file : o.calibration)
      names.push_back(printable(job::is_builtin(file) ? file : fs::path(file).filename().string()));
    return fmt::format("{} of {}", rows, fmt::join(names, ", "));
  }
  return fmt::format("{} of calque's own texts ({}); yours: --calibration FILE", rows,
                     fmt::join(job::builtin_kinds(), ", "));
}

std::string plan_text(const JobDraft& draft, const pipeline::OpenedJob& opened,
                      const forecast::Forecast& plan) {
  std::string text;
  const auto line = [&text](const std::string& name, const std::string& value) {
    text += fmt::format("{:<12} {}\n", name, value);
  };
  line("Model", fmt::format("{}: {}, {:.3g} bits/weight", printable(draft.model.written),
                            decimal_bytes_text(opened.source.weights->total_bytes()),
                            opened.source.bits_per_weight()));
  for (std::size_t i = 0; i < plan.exports.size(); ++i)
    line("Result",
         fmt::format("{}: {}, {:.3g} bits/weight; for {}", shown(plan.exports[i].plan.request.path),
                     decimal_bytes_text(plan.exports[i].weights_bytes()),
                     plan.exports[i].plan.bits_per_weight, draft.targets[i].loads_in));
  if (opened.sizes)
    line("Choice", fmt::format("each of {} parts gets one of {}, by what it costs",
                               opened.sizes->parts.size(), fmt::join(opened.sizes->options, ", ")));
  line("Calibration", calibration_text(draft));
  line("Needs",
       fmt::format("{} of memory, {} of disk, about {}", bytes_text(plan.memory.peak_bytes),
                   decimal_bytes_text(plan.disk.total()), duration_text(plan.time.seconds)));
  line("Job file",
       fmt::format("{}; record of the run in {}", shown(draft.file), shown(opened.job.run_dir)));
  for (const std::string& note : draft.notes) text += "note: " + printable(note) + "\n";
  return text;
}

std::string plan_of(const JobDraft& draft, const job::Job& job) {
  const pipeline::OpenedJob opened = pipeline::open_job(job);
  const double seconds_to_measure = pipeline::PlanOptions().seconds_to_measure;
  return plan_text(
      draft, opened,
      pipeline::forecast_job(opened, forecast::measure_rates(job, seconds_to_measure)));
}

// ---- Files

// The text behind the first line, which holds the command.
std::string settings_in(const std::string& job_text) {
  return job_text.substr(job_text.find('\n') + 1);
}

void refuse_existing(const fs::path& path, const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E209",
              fmt::format("'{}' already exists{}; give --overwrite to replace it, or --out for "
                          "another folder",
                          shown(path), reason));
}

// Results of this very job may be continued, but nothing finished is replaced unasked.
void check_files(const JobDraft& draft, const job::Job& job, const std::string& text) {
  if (fs::exists(draft.file) && settings_in(io::read_file(draft.file)) != settings_in(text))
    refuse_existing(draft.file, fmt::format(" with other settings (to run it: calque run {})",
                                            shell_quoted(shown(draft.file))));
  if (resume::can_resume(job.run_dir)) return;
  for (const formats::ExportRequest& request : job.exports)
    if (const auto there = formats::files_at(request); !there.empty())
      refuse_existing(there.front(), "");
}

// ---- The command

void make_and_run(const QuantizeArguments& arguments) {
  JobDraft draft = make_draft(arguments.draft, arguments.out);
  draft.command = command_line("quantize", arguments.draft);
  fit_to_text(draft, pipeline::open_job(job_of(draft, Detail::kChosen)));
  const std::string text = job_text(draft, Detail::kChosen);
  const job::Job job = job_of(draft, Detail::kChosen);
  if (!arguments.overwrite) check_files(draft, job, text);
  if (!arguments.json) fmt::print("{}\n", plan_of(draft, job));
  if (arguments.dry_run) return fmt::print("Nothing was written (--dry-run).\n");
  std::fflush(stdout);
  io::write_file(draft.file, text);
  run_job(job, {.job_file = shown(draft.file),
                .progress = arguments.quiet ? "none" : arguments.progress,
                .json = arguments.json,
                .saved = arguments.saved});
}

// Messages on too little text name keys of the job file, which the user has not written.
void quantize(const QuantizeArguments& arguments) {
  try {
    make_and_run(arguments);
  } catch (const Error& error) {
    if (error.code() != "E201") throw;
    throw Error(error.kind(), error.code(),
                fmt::format("{} (n_samples: --samples, seqlen: --seqlen)", error.what()));
  }
}

}  // namespace

Command quantize_command(const CommandContext& context) {
  const auto a = std::make_shared<QuantizeArguments>();
  a->saved = &context.saved;
  std::vector<Option> options = draft_options(a->draft);
  options.insert(
      options.end(),
      {Option{"--out,-o", &a->out,
              "Folder for results, job file and record of the run. Default: the current folder."}
           .folder(),
       {"--overwrite", &a->overwrite, "Replace results and a job file that exist."},
       {"--dry-run", &a->dry_run, "Show the plan and write nothing."},
       progress_option(a->progress),
       {"--quiet,-q", &a->quiet, "No progress, notes or warnings on stderr."},
       json_option(a->json, "Print the report as JSON.")});
  return {"quantize",
          "Quantize a model in one line: chooses the settings, writes a job file, runs it.",
          std::move(options),
          "  calque quantize tests/models/demo\n"
          "  calque quantize ./Qwen3-8B gptq-4bit Q4_K_M --out results\n"
          "  calque quantize Qwen/Qwen3-8B --for vllm --calibration mine.jsonl --dry-run",
          [a] { quantize(*a); }};
}

}  // namespace calque::cli
