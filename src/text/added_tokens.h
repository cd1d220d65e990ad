#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/text/regex.h"
#include "text/json_node.h"
#include "text/normalizer.h"

namespace calque::text {

// A token that is cut out of the text before the model sees it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // skipped when special tokens are ordinary text
  bool lstrip = false;       // takes the spaces before it
  bool rstrip = false;       // takes the spaces after it
  bool single_word = false;  // only if no word character touches it
  bool normalized = false;   // looked for in the normalized text, after the others
};
// Reads one entry of "added_tokens" or "added_tokens_decoder"; pass `id` if the entry has none.
AddedToken read_added_token(const JsonNode& node, std::optional<std::int32_t> id = std::nullopt);

// Finds tokens in a text: the leftmost first, and of those the longest.
class AddedTokenSplitter {
 public:
  struct Part {
    Span span;
    std::optional<std::int32_t> id;  // none: ordinary text
  };

  AddedTokenSplitter() = default;
  // Each token comes with its search text: normalized tokens are searched in normalized form.
  explicit AddedTokenSplitter(std::vector<std::pair<std::string, AddedToken>> tokens);

  // Splits all of `text`, except characters that a stripping token removes. With `parse_special`
  // false, matches of special tokens stay text (and hide other tokens inside them).
  std::vector<Part> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::size_t>> children;
    std::optional<std::size_t> token;
  };
  struct Match {
    Span span;
    std::size_t token;
  };

  void insert(std::string_view text, std::size_t token);
  std::size_t child(std::size_t node, unsigned char byte) const;  // 0: none
  std::optional<Match> longest_at(std::string_view text, std::size_t begin) const;
  std::optional<Match> next_match(std::string_view text, std::size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // nodes_[0]: the root
};

}  // namespace calque::text
