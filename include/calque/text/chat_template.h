#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "calque/io/json.h"

namespace calque::text {

// A chat template: Jinja as transformers runs it (jinja2's sandbox, trim_blocks, lstrip_blocks,
// break and continue, {% generation %}, tojson without escaping for HTML). src/text/jinja/README.md
// lists what is known. Everything else is refused by name, with its line. Rendering has bounds on
// depth, steps and memory, so a template from anywhere can be rendered. Thread-safe.
class ChatTemplate {
 public:
  // `name` is for messages. Error(kInput, "E215") if the template is not valid or uses something
  // that is not known.
  ChatTemplate(std::string_view source, std::string name);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `variables` is an object: messages, tools, bos_token, ... `seconds` since 1970 is the time of
  // strftime_now (UTC). Error(kInput, "E216") if the template fails on them, or refuses them by
  // raise_exception.
  std::string render(const io::Json& variables, std::int64_t seconds = kDefaultTime) const;

  // 2025-01-01 00:00 UTC: the same text every day.
  static constexpr std::int64_t kDefaultTime = 1735689600;

 private:
  struct Parsed;
  std::string name_;
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace calque::text
