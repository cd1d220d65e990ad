#include "calque/io/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::io {
namespace {

// Splits text into rows, character by character.
class CsvParser {
 public:
  explicit CsvParser(std::string_view text) : text_(text) {}

  struct Row {
    std::vector<std::string> cells;
    int line = 1;
    bool ended = true;  // by a line end
  };

  bool next(Row& row) {
    if (at_ == text_.size()) return false;
    row = {{}, line_, false};
    for (bool more = true; more;) {
      row.cells.push_back(cell());
      more = at_ < text_.size() && text_[at_] == ',';
      if (more) ++at_;
    }
    row.ended = end_line();
    return true;
  }

 private:
  std::string cell() {
    if (at_ < text_.size() && text_[at_] == '"') return quoted();
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string value(text_.substr(at_, end - at_));
    at_ = end;
    return value;
  }
  std::string quoted() {
    std::string value;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        if (at_ + 1 == text_.size() || text_[at_ + 1] != '"') break;
        ++at_;
      }
      if (text_[at_] == '\n') ++line_;
      value += text_[at_];
    }
    if (at_ < text_.size()) ++at_;
    // Text after a closing quote belongs to the cell: earlier versions escaped quotes as \".
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    value += text_.substr(at_, end - at_);
    at_ = end;
    return value;
  }
  bool end_line() {
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ == text_.size()) return false;
    if (text_[at_] != '\n') return true;
    ++at_;
    ++line_;
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
};

std::string quoted_if_needed(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

int Csv::column(std::string_view title) const {
  const auto found = std::ranges::find(titles, title);
  return found == titles.end() ? -1 : static_cast<int>(found - titles.begin());
}

const std::string& Csv::cell(std::size_t row, std::string_view title) const {
  static const std::string kNone;
  const int at = column(title);
  return at < 0 ? kNone : rows[row][static_cast<std::size_t>(at)];
}

Csv parse_csv(std::string_view text, const std::string& where, bool still_growing) {
  CsvParser parser(text);
  CsvParser::Row row;
  Csv csv;
  if (parser.next(row)) csv.titles = std::move(row.cells);
  while (parser.next(row)) {
    if (still_growing && !row.ended) break;
    if (row.cells.size() != csv.titles.size())
      throw Error(ErrorKind::kInput, "E252",
                  fmt::format("{}:{}: has {} cells, but the first line has {}; is the file "
                              "complete? Remove the line, or repeat the run",
                              where, row.line, row.cells.size(), csv.titles.size()));
    csv.rows.push_back(std::move(row.cells));
  }
  return csv;
}

Csv read_csv(const std::filesystem::path& path, bool still_growing) {
  return parse_csv(read_file(path), path.string(), still_growing);
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells)
    line += (&cell == &cells.front() ? "" : ",") + quoted_if_needed(cell);
  return line + "\n";
}

std::string csv_text(const Csv& csv) {
  std::string text = csv_line(csv.titles);
  for (const auto& row : csv.rows) text += csv_line(row);
  return text;
}

}  // namespace calque::io
