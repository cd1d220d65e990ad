#include <cctype>

#include "publish/model_card.h"

namespace calque::publish {
namespace {

// Where a value of YAML or a word of a message may begin.
bool begins_value(const std::string& text, std::size_t at) {
  if (at == 0) return true;
  const char before = text[at - 1];
  return std::isspace(static_cast<unsigned char>(before)) != 0 || before == '"' || before == '\'' ||
         before == '[' || before == '{' || before == ',' || before == '(';
}

std::size_t end_of_path(const std::string& text, std::size_t at) {
  const char before = at == 0 ? '\n' : text[at - 1];
  const bool quoted = before == '"' || before == '\'';
  for (std::size_t end = at; end < text.size(); ++end) {
    const char c = text[end];
    if (quoted && c == '\\' && before == '"') {
      ++end;
      continue;
    }
    if (quoted ? c == before : c == '\n' || c == ',' || c == ']' || c == '}') return end;
  }
  return text.size();
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::string part = path.substr(path.rfind('/') + 1);
  return part.empty() ? "." : part;
}

}  // namespace

std::string without_local_paths(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '/' || !begins_value(text, at)) {
      result += text[at++];
      continue;
    }
    const std::size_t end = end_of_path(text, at);
    result += last_part(text.substr(at, end - at));
    at = end;
  }
  return result;
}

}  // namespace calque::publish
