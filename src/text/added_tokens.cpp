#include "text/added_tokens.h"

#include <algorithm>

#include "text/bpe.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

bool stands_alone(std::string_view text, Span span) {
  if (span.begin > 0 && is_word_character(last_code_point(text, span.begin))) return false;
  std::size_t end = span.end;
  return end == text.size() || !is_word_character(next_code_point(text, end));
}

std::size_t before_spaces(std::string_view text, std::size_t end, std::size_t limit) {
  while (end > limit && is_white_space(last_code_point(text, end))) {
    --end;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  }
  return end;
}

std::size_t after_spaces(std::string_view text, std::size_t begin) {
  for (std::size_t at = begin; at < text.size(); begin = at)
    if (!is_white_space(next_code_point(text, at))) break;
  return begin;
}

}  // namespace

AddedToken read_added_token(const JsonNode& node, std::optional<std::int32_t> id) {
  AddedToken token;
  token.id = id ? *id : static_cast<std::int32_t>(node.at("id").integer(0, kMaxTokenId));
  token.content = node.at("content").string();
  token.special = node.flag_or("special", false);
  token.lstrip = node.flag_or("lstrip", false);
  token.rstrip = node.flag_or("rstrip", false);
  token.single_word = node.flag_or("single_word", false);
  token.normalized = node.flag_or("normalized", !token.special);
  return token;
}

AddedTokenSplitter::AddedTokenSplitter(std::vector<std::pair<std::string, AddedToken>> tokens) {
  nodes_.emplace_back();
  for (auto& [text, token] : tokens) {
    if (text.empty()) continue;
    insert(text, tokens_.size());
    tokens_.push_back(std::move(token));
  }
}

void AddedTokenSplitter::insert(std::string_view text, std::size_t token) {
  std::size_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    std::size_t next = child(node, byte);
    if (next == 0) {
      next = nodes_.size();
      auto& children = nodes_[node].children;
      const auto place = std::lower_bound(children.begin(), children.end(), std::pair{byte, next});
      children.insert(place, {byte, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  nodes_[node].token = token;
}

std::size_t AddedTokenSplitter::child(std::size_t node, unsigned char byte) const {
  const auto& children = nodes_[node].children;
  const auto found =
      std::lower_bound(children.begin(), children.end(), std::pair{byte, std::size_t{0}});
  return found != children.end() && found->first == byte ? found->second : 0;
}

std::optional<AddedTokenSplitter::Match> AddedTokenSplitter::longest_at(std::string_view text,
                                                                        std::size_t begin) const {
  std::optional<Match> longest;
  std::size_t node = 0;
  for (std::size_t at = begin; at < text.size(); ++at) {
    node = child(node, static_cast<unsigned char>(text[at]));
    if (node == 0) break;
    if (nodes_[node].token) longest = Match{{begin, at + 1}, *nodes_[node].token};
  }
  return longest;
}

std::optional<AddedTokenSplitter::Match> AddedTokenSplitter::next_match(std::string_view text,
                                                                        std::size_t begin) const {
  for (; begin < text.size(); ++begin)
    if (auto match = longest_at(text, begin)) return match;
  return std::nullopt;
}

std::vector<AddedTokenSplitter::Part> AddedTokenSplitter::split(std::string_view text,
                                                                bool parse_special) const {
  std::vector<Part> parts;
  std::size_t done = 0;
  std::size_t search_from = 0;
  while (!tokens_.empty()) {
    const auto match = next_match(text, search_from);
    if (!match) break;
    search_from = match->span.end;
    const AddedToken& token = tokens_[match->token];
    Span span = match->span;
    if (token.special && !parse_special) continue;
    if (token.single_word && !stands_alone(text, span)) continue;
    if (token.lstrip) span.begin = std::max(before_spaces(text, span.begin, 0), done);
    if (token.rstrip) span.end = after_spaces(text, span.end);
    if (done < span.begin) parts.push_back({{done, span.begin}, std::nullopt});
    parts.push_back({span, token.id});
    done = span.end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, std::nullopt});
  return parts;
}

}  // namespace calque::text
