#include "text/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/json.h"
#include "calque/io/text_lines.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kInput, "E212", message);
}

// The UTF-16 code unit of a "\uXXXX" at `at`; -1 if there is none.
int unit_at(std::string_view line, std::size_t at) {
  if (at + 6 > line.size() || line[at] != '\\' || line[at + 1] != 'u') return -1;
  int unit = 0;
  for (const char c : line.substr(at + 2, 4)) {
    const char lower = static_cast<char>(c | 0x20);
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (lower < 'a' || lower > 'f')) return -1;
    unit = unit * 16 + (digit ? c - '0' : lower - 'a' + 10);
  }
  return unit;
}
bool is_high(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool is_low(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

// A lone surrogate is not a character, and JSON parsers refuse it; scraped text contains some.
void replace_lone_surrogates(std::string& line, bool& repaired) {
  for (std::size_t at = line.find('\\'); at < line.size(); at = line.find('\\', at)) {
    const int unit = unit_at(line, at);
    if (is_high(unit) && is_low(unit_at(line, at + 6))) {
      at += 12;
    } else if (is_high(unit) || is_low(unit)) {
      line.replace(at, 6, "\\uFFFD");
      repaired = true;
      at += 6;
    } else {
      at += 2;
    }
  }
}

std::string keys_of(const io::Json& object) {
  std::string keys;
  for (const auto& [key, value] : object.members())
    keys += (keys.empty() ? "" : ", ") + quote_name(key);
  return keys.empty() ? "none" : keys;
}

io::Json parse_line(const std::string& line, const std::string& place) {
  try {
    return io::parse_json(line);
  } catch (const Error& error) {
    refuse(fmt::format("{}: {}. A .jsonl file has one object per line.", place, error.what()));
  }
}

std::string text_of_line(const std::string& line, const std::string& column,
                         const std::string& place) {
  io::Json object = parse_line(line, place);
  if (!object.is_object())
    refuse(fmt::format("{}: holds {}, not an object", place, object.type_name()));
  const io::Json* found = object.find(column);
  if (found == nullptr)
    refuse(
        fmt::format("{}: has no column '{}'; its columns: {}. Calibration sources can name another "
                    "one: text_column.",
                    place, column, keys_of(object)));
  if (!found->is_string())
    refuse(fmt::format("{}: column '{}' is {}, not text", place, column, found->type_name()));
  return found->string();
}

void visit_jsonl(const TextSource& source, const DocumentVisitor& visit) {
  std::int64_t number = 0;
  io::for_each_line(source.path, [&](std::string_view raw) {
    ++number;
    if (raw.find_first_not_of(" \t\r") == std::string_view::npos) return true;
    bool repaired = false;
    std::string line = replace_invalid_utf8(raw, repaired);
    replace_lone_surrogates(line, repaired);
    std::string text =
        text_of_line(line, source.text_column, fmt::format("{}:{}", source.path.string(), number));
    if (!text.empty()) visit(std::move(text), repaired);
    return true;
  });
}

void visit_part(std::string_view part, const DocumentVisitor& visit) {
  if (part.empty()) return;
  bool repaired = false;
  std::string document = replace_invalid_utf8(part, repaired);
  visit(std::move(document), repaired);
}

void visit_text(const TextSource& source, const DocumentVisitor& visit) {
  const std::string text = io::read_text(source.path);
  if (!source.split_on) return visit_part(text, visit);
  const std::string& separator = *source.split_on;
  if (separator.empty())
    throw Error(ErrorKind::kConfig, "E106",
                fmt::format("{}: split_on is empty; remove it to use the file as one document",
                            source.path.string()));
  const std::string_view view = text;
  std::size_t begin = 0;
  for (std::size_t at = view.find(separator); at != std::string_view::npos;
       at = view.find(separator, begin)) {
    visit_part(view.substr(begin, at - begin), visit);
    begin = at + separator.size();
  }
  visit_part(view.substr(begin), visit);
}

}  // namespace

std::string suffix_inside_compression(const std::filesystem::path& path) {
  const std::string last = path.extension().string();
  return last == ".gz" || last == ".zst" ? path.stem().extension().string() : last;
}

void for_each_document(const TextSource& source, const DocumentVisitor& visit) {
  constexpr std::array<std::string_view, 9> kNotText = {
      ".parquet", ".arrow", ".json", ".csv", ".tsv", ".safetensors", ".npy", ".bin", ".xz"};
  const std::string suffix = suffix_inside_compression(source.path);
  if (std::find(kNotText.begin(), kNotText.end(), suffix) != kNotText.end())
    refuse(
        fmt::format("{}: a '{}' file is not read as text; convert it to .jsonl or .txt (also "
                    ".gz, .zst)",
                    source.path.string(), suffix));
  if (suffix == ".jsonl") return visit_jsonl(source, visit);
  visit_text(source, visit);
}

}  // namespace calque::text
