#include "text/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/json.h"
#include "calque/io/text_lines.h"
#include "text/conversations.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

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
    refuse_text(fmt::format("{}: {}. A .jsonl file has one object per line.", place, error.what()));
  }
}

// Visits the text or the conversation of one object.
class RowReader {
 public:
  RowReader(const TextSource& source, const std::filesystem::path& model,
            const DocumentVisitor& visit)
      : source_(source), visit_(visit), renderer_(model, source.chat) {}

  void read(const io::Json& row, bool repaired, const std::string& place) {
    if (!row.is_object())
      refuse_text(fmt::format("{}: holds {}, not an object", place, row.type_name()));
    Document document{"", repaired};
    if (holds_conversation(row, source_.text_column)) {
      ConversationText conversation =
          with_context(place, [&] { return renderer_.render(row, source_.text_column); });
      document.text = std::move(conversation.text);
      document.rendered = !conversation.plain;
      document.plain = conversation.plain;
    } else {
      document.text = text_of(row, place);
    }
    if (!document.text.empty()) visit_(document);
  }

 private:
  const std::string& text_of(const io::Json& row, const std::string& place) const {
    const std::string& column = source_.text_column;
    const io::Json* found = row.find(column);
    if (found == nullptr)
      refuse_text(fmt::format(
          "{}: has no column '{}'; its columns: {}. Calibration sources can name another "
          "one: text_column.",
          place, column, keys_of(row)));
    if (!found->is_string())
      refuse_text(
          fmt::format("{}: column '{}' is {}, not text", place, column, found->type_name()));
    return found->string();
  }

  const TextSource& source_;
  const DocumentVisitor& visit_;
  ConversationRenderer renderer_;
};

std::string readable(std::string_view raw, bool& repaired) {
  std::string text = replace_invalid_utf8(raw, repaired);
  replace_lone_surrogates(text, repaired);
  return text;
}

void visit_jsonl(const TextSource& source, RowReader& rows) {
  std::int64_t number = 0;
  io::for_each_line(source.path, [&](std::string_view raw) {
    ++number;
    if (raw.find_first_not_of(" \t\r") == std::string_view::npos) return true;
    bool repaired = false;
    const std::string line = readable(raw, repaired);
    const std::string place = fmt::format("{}:{}", source.path.string(), number);
    rows.read(parse_line(line, place), repaired, place);
    return true;
  });
}

void visit_json(const TextSource& source, RowReader& rows) {
  bool repaired = false;
  const std::string text = readable(io::read_text(source.path), repaired);
  const std::string place = source.path.string();
  io::Json list;
  try {
    list = io::parse_json(text);
  } catch (const Error& error) {
    refuse_text(fmt::format("{}: {}", place, error.what()));
  }
  if (!list.is_array())
    refuse_text(fmt::format("{}: holds {}, not a list of objects", place, list.type_name()));
  for (std::size_t i = 0; i < list.size(); ++i)
    rows.read(list.at(i), repaired, fmt::format("{}: element {}", place, i));
}

void visit_part(std::string_view part, const DocumentVisitor& visit) {
  if (part.empty()) return;
  bool repaired = false;
  std::string text = replace_invalid_utf8(part, repaired);
  visit({std::move(text), repaired});
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

void for_each_document(const TextSource& source, const std::filesystem::path& model,
                       const DocumentVisitor& visit) {
  constexpr std::array<std::string_view, 8> kNotText = {".parquet",     ".arrow", ".csv", ".tsv",
                                                        ".safetensors", ".npy",   ".bin", ".xz"};
  const std::string suffix = suffix_inside_compression(source.path);
  if (std::find(kNotText.begin(), kNotText.end(), suffix) != kNotText.end())
    refuse_text(
        fmt::format("{}: a '{}' file is not read as text; convert it to .jsonl or .txt (also "
                    ".gz, .zst)",
                    source.path.string(), suffix));
  if (suffix != ".jsonl" && suffix != ".json") return visit_text(source, visit);
  RowReader rows(source, model, visit);
  suffix == ".json" ? visit_json(source, rows) : visit_jsonl(source, rows);
}

}  // namespace calque::text
