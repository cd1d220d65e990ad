#include "cli/manual.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>
#include <type_traits>

#include "calque/config/job_file.h"
#include "cli/program.h"

namespace calque::cli {
namespace {

constexpr std::string_view kDescription =
    "calque turns a language model's FP16 or BF16 checkpoint into a smaller one that still says "
    "the "
    "same things. It writes GPTQ, AWQ and compressed-tensors folders for vLLM, SGLang and "
    "transformers, and GGUF files for llama.cpp and Ollama. It reads calibration text, measures "
    "what each linear layer sees, and rounds the weights so that the layers' outputs change least. "
    "Then it reads the finished artifact back and reports what the smaller size costs.\n"
    "`calque quantize` needs nothing but a model. A job file says everything else, see "
    "`calque-job`(5): `calque init` writes one, `calque run` runs it. Results go to standard "
    "output, everything else to standard error. Nothing is downloaded.";

struct Named {
  std::string_view name;
  std::string_view text;
};

constexpr Named kEnvironment[] = {
    {"CALQUE_ISA",
     "The widest instruction set that is used: `avx2`, `avx512` or `amx`. Default: the widest of "
     "the processor."},
    {"HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME",
     "Place of the Hugging Face cache, in this order: `$HF_HUB_CACHE`, `$HF_HOME/hub`, "
     "`$XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`."},
};

constexpr Named kFiles[] = {
    {"PREFIX/share/calque/calibration",
     "calque's own calibration texts (`builtin`). PREFIX is the folder above the program's."},
    {"PREFIX/lib/calque", "Plug-ins: SentencePiece, LibTorch and CUDA, as far as installed."},
    {"runs/NAME",
     "Record of a run: the job with every default (`job.resolved.yaml`), `metrics.json`, "
     "`modules.csv`, `log.jsonl`, `calibration_manifest.json`, and saved state for `calque "
     "resume`."},
};

constexpr std::string_view kJobExample =
    "version: 1\n"
    "model: {path: /models/Llama-3.2-1B}\n"
    "calibration:\n"
    "  n_samples: 128\n"
    "  seqlen: 2048\n"
    "  sources:\n"
    "    - {path: data/web.jsonl.zst, weight: 0.7}\n"
    "    - {path: data/code.txt, weight: 0.3}\n"
    "quantization: {method: gptq, bits: 4, group_size: 128, sym: true}\n"
    "export:\n"
    "  - {format: gptq, path: out/Llama-3.2-1B-GPTQ-Int4}\n"
    "  - {format: gguf, path: out/Llama-3.2-1B-Q4_K_M.gguf, type: Q4_K_M}\n"
    "evaluate: {texts: [{text: data/heldout.txt}]}\n";

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

// ---- Parts of a page

std::string head(std::string_view name, int section, const std::string& day) {
  return fmt::format(
      ".\\\" Made by calque from the tables of its commands and keys.\n"
      ".TH {} {} \"{}\" \"calque {}\" \"{}\"\n",
      roff(upper(std::string(name))), section, roff(day), CALQUE_VERSION,
      section == 1 ? "User Commands" : "File Formats");
}

std::string section(const std::string& title) { return fmt::format(".SH \"{}\"\n", roff(title)); }

std::string paragraphs(std::string_view text) {
  std::string result, line;
  std::istringstream lines{std::string(text)};
  while (std::getline(lines, line)) result += (result.empty() ? "" : ".PP\n") + roff(line) + "\n";
  return result;
}

// `term` is roff already.
std::string entry(const std::string& term, const std::string& text) {
  return fmt::format(".TP\n{}\n{}\n", term, roff(text));
}

// Lines as they are.
std::string verbatim(const std::string& text) {
  std::string result, line;
  std::istringstream lines(text);
  while (std::getline(lines, line))
    result += roff(line.starts_with("  ") ? line.substr(2) : line) + "\n";
  return ".PP\n.RS 4\n.nf\n" + result + ".fi\n.RE\n";
}

template <std::size_t N>
std::string entries(const Named (&list)[N]) {
  std::string text;
  for (const Named& item : list)
    text += entry(fmt::format("\\fB{}\\fR", roff(std::string(item.name))), std::string(item.text));
  return text;
}

// ---- Commands

std::string value_name(const Option& option) {
  if (!option.placeholder.empty()) return option.placeholder;
  if (option.is_positional()) return upper(option.names);
  switch (option.kind) {
    case ValueKind::kPath:
      return "PATH";
    case ValueKind::kFolder:
      return "FOLDER";
    case ValueKind::kModel:
      return "MODEL";
    case ValueKind::kSetting:
      return "KEY.PATH=VALUE";
    case ValueKind::kText:
      break;
  }
  const bool is_text = std::holds_alternative<std::string*>(option.target) ||
                       std::holds_alternative<std::vector<std::string>*>(option.target);
  return is_text ? "WORD" : "N";
}

std::string default_of(const Option& option) {
  return std::visit(
      [](const auto* target) -> std::string {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(target)>>;
        if constexpr (std::is_same_v<T, std::string>)
          return *target;
        else if constexpr (std::is_same_v<T, int> || std::is_same_v<T, std::int64_t>)
          return std::to_string(*target);
        else
          return "";
      },
      option.target);
}

// As --help, which shows the default of options with choices or bounds.
std::string meaning(const Option& option) {
  std::string text = option.help;
  if (option.is_required) text += " Required.";
  if (option.is_alternative) text += " Exactly one option of this kind is given.";
  if (!option.choices.empty()) text += fmt::format(" One of: {}.", fmt::join(option.choices, ", "));
  const std::string value = default_of(option);
  const bool shows = !option.choices.empty() || option.bounds.has_value();
  if (shows && !value.empty() && !option.is_required) text += fmt::format(" Default: {}.", value);
  return text;
}

// "--out, -o FOLDER" with fonts.
std::string term(const Option& option) {
  if (option.is_positional()) return fmt::format("\\fI{}\\fR", roff(upper(option.names)));
  std::string names = "\\fB" + roff(option.names) + "\\fR";
  if (const std::size_t comma = names.find(','); comma != std::string::npos)
    names.replace(comma, 1, "\\fR, \\fB");
  return option.is_flag() ? names : names + " \\fI" + roff(value_name(option)) + "\\fR";
}

// "calque quantize MODEL [TARGET ...] [options]"
std::string usage(const Command& command) {
  std::string text = "calque " + command.name;
  bool has_options = false;
  for (const Option& option : command.options) {
    has_options |= !option.is_positional();
    if (!option.is_positional()) continue;
    const std::string name = upper(option.names) + (option.is_list() ? " ..." : "");
    text += option.is_required ? " " + name : " [" + name + "]";
  }
  return has_options ? text + " [options]" : text;
}

std::string part_on(const Command& command) {
  std::string text = fmt::format(".SS \"{}\"\n{}\n", roff(usage(command)), roff(command.summary));
  for (const Option& option : command.options) text += entry(term(option), meaning(option));
  return text + verbatim(command.examples);
}

// ---- Keys of the job file

std::string entry_of(const config::KeyFacts& key) {
  const std::string name = key.path.substr(key.path.rfind('.') + 1);
  const std::string given =
      key.default_value.empty()
          ? "required"
          : "default: " + (key.default_value.front() == '`' ? key.default_value
                                                            : "`" + key.default_value + "`");
  return entry(fmt::format("\\fB{}\\fR", roff(name)),
               fmt::format("{} ({}; {})", key.doc, key.type, given));
}

std::string part_on(const config::SectionFacts& facts) {
  const bool is_list = facts.path.ends_with(".*");
  std::string name = is_list ? facts.path.substr(0, facts.path.size() - 2) + " (list)" : facts.path;
  std::string text = fmt::format(".SS \"{}\"\n", roff(name.empty() ? "Top level" : name));
  if (!facts.path.empty()) text += roff(facts.doc) + "\n";
  for (const config::KeyFacts& key : facts.keys) text += entry_of(key);
  return text;
}

}  // namespace

std::string roff(const std::string& text) {
  std::string result;
  bool bold = false;
  for (const char c : text) {
    switch (c) {
      case '`':
        bold = !bold;
        result += bold ? "\\fB" : "\\fR";
        break;
      case '\\':
        result += "\\e";
        break;
      case '-':
        result += "\\-";
        break;
      case '\'':
        result += "\\(aq";
        break;
      case '"':
        result += "\\(dq";
        break;
      case '^':
        result += "\\(ha";
        break;
      case '~':
        result += "\\(ti";
        break;
      default:
        result += c;
    }
  }
  return result.starts_with('.') ? "\\&" + result : result;
}

std::string program_manual(const std::vector<Command>& commands, const std::string& day) {
  std::string page = head("calque", 1, day) + section("NAME") +
                     roff("calque - quantizes language models") + "\n" + section("SYNOPSIS") +
                     "\\fBcalque\\fR \\fICOMMAND\\fR [\\fIoptions\\fR]\n" + section("DESCRIPTION") +
                     paragraphs(kDescription) + section("COMMANDS");
  for (const Command& command : commands) page += part_on(command);
  page += section("OPTIONS") +
          entry("\\fB\\-\\-help\\fR, \\fB\\-h\\fR", "Print help, also of each command, and exit.") +
          entry("\\fB\\-\\-version\\fR", "Print the version and the commit, and exit.");
  const std::string codes = kExitCodes;
  page += section("EXIT STATUS") + verbatim(codes.substr(codes.find('\n') + 1));
  page += section("ENVIRONMENT") + entries(kEnvironment) + section("FILES") + entries(kFiles);
  return page + section("SEE ALSO") + roff("`calque-job`(5)") + "\n";
}

std::string job_file_manual(const std::string& day) {
  std::string page =
      head("calque-job", 5, day) + section("NAME") + roff("calque-job - the job file of calque") +
      "\n" + section("DESCRIPTION") +
      paragraphs(
          "A job file is YAML. It says which model is quantized, on which text, how, "
          "and what is written. Unknown keys, keys given twice and values out of "
          "range are refused with their line. Relative paths are relative to the "
          "file. `calque run --set quantization.bits=3` overrides a value; items of "
          "lists are numbered: `export.0.type`.") +
      section("EXAMPLE") + verbatim(std::string(kJobExample)) + section("KEYS");
  for (const config::SectionFacts& facts : config::sections_of_job_file()) page += part_on(facts);
  return page + section("SEE ALSO") + roff("`calque`(1)") + "\n";
}

}  // namespace calque::cli
