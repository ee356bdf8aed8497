"""A chat format of our own: `--custom_register_path examples/plugins/interview.py --template interview`."""

from swift.plugin import chat_formats
from swift.template.chat_format import ChatFormat

INTERVIEW = ChatFormat(
    name="interview",
    system="{{SYSTEM}}\n\n",
    user="Interviewer: {{QUERY}}\n",
    assistant="Guest: ",
    separator="{{EOS}}\n",  # between an answer and the next question
    stop="{{EOS}}",  # what ends an answer, and is learned
)
chat_formats.register(INTERVIEW.name)(INTERVIEW)
