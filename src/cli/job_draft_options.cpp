#include "cli/job_draft_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/quant/methods.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const job::Preset* preset : job::presets()) names.emplace_back(preset->name);
  return names;
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const quant::Method& method : quant::methods()) names.emplace_back(method.name);
  return names;
}

std::vector<std::string> method_summaries() {
  std::vector<std::string> summaries;
  for (const quant::Method& method : quant::methods())
    summaries.push_back(fmt::format("{} ({})", method.name, method.summary));
  return summaries;
}

std::string preset_summaries() {
  std::vector<std::string> parts;
  for (const job::Preset* preset : job::presets())
    parts.push_back(fmt::format("{} ({})", preset->name, preset->summary));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

std::vector<Option> draft_options(DraftOptions& draft) {
  return {
      Option{"model", &draft.model,
             "A Hugging Face folder, a GGUF file, or org/name[@revision] of a model in the Hugging "
             "Face cache. Nothing is downloaded."}
          .required()
          .model(),
      Option{"target", &draft.targets,
             fmt::format(
                 "What to make: {}. Several share one job. Default: what --for needs, else {}, "
                 "one file that llama.cpp and Ollama run with or without a GPU.",
                 targets_text(), kUsualTarget)}
          .such_as(target_names()),
      Option{"--for", &draft.runtime, "The program that will load the result."}.among(
          runtime_names()),
      Option{"--calibration", &draft.calibration,
             "A text (.txt, .jsonl, also .gz or .zst) or token ids (.safetensors) to calibrate on. "
             "May be repeated. Default: builtin, calque's own texts (builtin:prose: those of one "
             "kind). none: round to nearest without text."}
          .called("FILE")
          .path(),
      Option{"--samples", &draft.samples,
             fmt::format("Rows of calibration text. Default: {}, or what the text gives.",
                         kUsualSamples)}
          .positive(),
      Option{"--seqlen", &draft.seqlen, "Tokens per row; at most what the model allows."}
          .positive(),
      Option{"--method", &draft.method,
             fmt::format("How to round, instead of the target's own way: {}.",
                         fmt::join(method_summaries(), "; "))}
          .among(method_names()),
      Option{"--preset", &draft.preset,
             fmt::format("How much work is spent on quality: {}. Default: {}.", preset_summaries(),
                         job::QuantizationSettings().preset->name)}
          .among(preset_names()),
      Option{"--target-bpw", &draft.target_bpw,
             "A size in bits per weight of the whole file, such as 3.2: every matrix gets a width, "
             "or a GGUF type, of its own, so that the file says the same things as nearly as it "
             "can at that size."}
          .called("BITS"),
      Option{"--target-size", &draft.target_size,
             "The same as the size of the weights files, such as 4.5GiB."}
          .called("SIZE"),
      Option{"--max-ram", &draft.max_ram, "Limit on memory, such as 6GiB. Default: none."}.called(
          "SIZE"),
      threads_option(draft.threads),
      Option{"--eval", &draft.evaluation,
             "A text, or token ids, to measure the loss on after quantizing."}
          .called("FILE")
          .path(),
  };
}

std::string command_line(const std::string& command, const DraftOptions& draft) {
  const DraftOptions usual;
  std::string line = fmt::format("calque {} {}", command, shell_quoted(draft.model));
  const auto add = [&line](const std::string& text) { line += " " + text; };
  for (const std::string& target : draft.targets) add(target);
  if (!draft.runtime.empty()) add("--for " + draft.runtime);
  for (const std::string& file : draft.calibration) add("--calibration " + shell_quoted(file));
  if (draft.samples > 0) add(fmt::format("--samples {}", draft.samples));
  if (draft.seqlen != usual.seqlen) add(fmt::format("--seqlen {}", draft.seqlen));
  if (!draft.method.empty()) add("--method " + draft.method);
  if (!draft.preset.empty()) add("--preset " + draft.preset);
  if (!draft.target_bpw.empty()) add("--target-bpw " + shell_quoted(draft.target_bpw));
  if (!draft.target_size.empty()) add("--target-size " + shell_quoted(draft.target_size));
  if (!draft.max_ram.empty()) add("--max-ram " + shell_quoted(draft.max_ram));
  if (draft.threads > 0) add(fmt::format("--threads {}", draft.threads));
  if (!draft.evaluation.empty()) add("--eval " + shell_quoted(draft.evaluation));
  return line;
}

}  // namespace calque::cli
