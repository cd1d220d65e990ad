#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "calque/pipeline/evaluate_texts.h"

namespace calque::pipeline {
namespace {

constexpr const char* kNameCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// "prose" for prose.txt and prose.jsonl.gz.
std::string name_of_file(std::filesystem::path file) {
  if (file.extension() == ".gz" || file.extension() == ".zst") file = file.stem();
  std::string name = file.stem().string();
  for (char& c : name)
    if (std::string_view(kNameCharacters).find(c) == std::string_view::npos) c = '-';
  return name.empty() ? "text" : name;
}

void check_source(const EvaluationText& text, const char* where) {
  if (text.text.empty() == text.tokens.empty())
    throw Error(ErrorKind::kConfig, "E206",
                fmt::format("{} needs either text or tokens (one of them)", where));
  if (!std::filesystem::exists(text.file()))
    throw Error(ErrorKind::kInput, "E202",
                fmt::format("{}: '{}' does not exist (paths are relative to the job file)", where,
                            text.file().string()));
}

void check_name(const EvaluationText& text, std::set<std::string>& seen) {
  if (text.name.find_first_not_of(kNameCharacters) != std::string::npos)
    throw Error(ErrorKind::kConfig, "E242",
                fmt::format("evaluate.texts: '{}' is no name for a text: letters, digits, - and _ "
                            "are; it becomes part of column names",
                            text.name));
  if (!seen.insert(text.name).second)
    throw Error(ErrorKind::kConfig, "E242",
                fmt::format("evaluate.texts: two texts are called '{}' ({}); give one of them "
                            "another name",
                            text.name, text.file().string()));
}

}  // namespace

std::vector<EvaluationText> EvaluationSettings::named_texts() const {
  std::vector<EvaluationText> result = texts;
  if (texts.empty()) result.push_back({.name = "", .text = text, .tokens = tokens, .windows = {}});
  for (EvaluationText& item : result) {
    if (item.name.empty()) item.name = name_of_file(item.file());
    if (!item.windows) item.windows = windows;
  }
  return result;
}

void check_evaluation(const EvaluationSettings& settings) {
  if (!settings.texts.empty() && !(settings.text.empty() && settings.tokens.empty()))
    throw Error(ErrorKind::kConfig, "E206",
                "evaluate has both texts and text or tokens; put all into texts");
  std::set<std::string> names;
  for (const EvaluationText& text : settings.named_texts()) {
    check_source(text, settings.texts.empty() ? "evaluate" : "evaluate.texts");
    check_name(text, names);
  }
}

}  // namespace calque::pipeline
