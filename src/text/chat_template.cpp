#include "calque/text/chat_template.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/syntax.h"
#include "text/unicode.h"

namespace calque::text {

struct ChatTemplate::Parsed {
  jinja::Block body;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string name) : name_(std::move(name)) {
  bool replaced = false;
  const std::string text = replace_invalid_utf8(source, replaced);
  try {
    parsed_ = std::make_unique<const Parsed>(Parsed{jinja::parse(text)});
  } catch (const jinja::ParseFailure& failure) {
    throw Error(ErrorKind::kInput, "E215",
                fmt::format("{}:{}: {}", name_, failure.line, failure.message));
  }
}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const io::Json& variables, std::int64_t seconds) const {
  try {
    return jinja::render(parsed_->body, variables, {seconds}, {});
  } catch (const jinja::RenderFailure& failure) {
    throw Error(ErrorKind::kInput, "E216",
                fmt::format("{}:{}: {}", name_, failure.line, failure.message));
  }
}

}  // namespace calque::text
