/** Markdown of a model, as HTML that can do nothing: HTML in it stays text, and what is made of the
 * rest is sanitised all the same. */
import DOMPurify from "./vendor/dompurify.js";
import { Marked } from "./vendor/marked.js";

const escape = (text) => text.replace(/[&<>"]/g, (each) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[each]);
const marked = new Marked({
  gfm: true,
  async: false,
  renderer: {
    html: ({ text }) => escape(text),
    // A picture from elsewhere would tell that it was looked at.
    image: ({ text, href }) => escape(`[${text || "picture"}: ${href}]`),
  },
});
const ALLOWED = {
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|#)/i,
};
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Return HTML for an element's content. */
export function markdown(text) {
  return DOMPurify.sanitize(marked.parse(text), ALLOWED);
}
