/**
 * The tab's icon: the state at a glance.
 */

const SHAPES = {
  busy: '<circle cx="16" cy="16" r="11" fill="none" stroke="#e66581" stroke-width="7" stroke-dasharray="46 24"/>',
  lost: '<circle cx="16" cy="16" r="11" fill="none" stroke="#d08b14" stroke-width="7" stroke-dasharray="8 9"/>',
  ready: '<circle cx="16" cy="16" r="15" fill="#2e7d4f"/><path d="M8 17l6 6 11-13" fill="none" stroke="#fff" stroke-width="4"/>',
  failed:
    '<circle cx="16" cy="16" r="15" fill="#b3261e"/><path d="M10 10l12 12M22 10L10 22" stroke="#fff" stroke-width="4"/>',
};

/**
 * @param {Document} document
 * @param {keyof SHAPES} state
 */
export function showIcon(document, state) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${SHAPES[state]}</svg>`;
  let link = document.querySelector('link[rel~="icon"]');
  if (!link) {
    link = document.createElement("link");
    link.rel = "icon";
    document.head.append(link);
  }
  const href = "data:image/svg+xml," + encodeURIComponent(svg);
  if (link.href === href) return;
  link.type = "image/svg+xml";
  link.href = href;
}
