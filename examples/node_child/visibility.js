// What each token may see, in JavaScript, as a child process of `gemma3-ref check-rule visibility`.

const { createInterface } = require("node:readline");

function visible({ soft, first, start, window, keys }) {
  return soft.map((isSoft, token) => {
    const own = start + token; // index of the token's own key
    let from = first[token];
    let to = own + 1; // the range is half-open
    if (own < from) return [own, own]; // a pad sees nothing
    if (window !== null) from = Math.max(from, own - window + 1);
    const inBlock = (key) => soft[key - start] && first[key - start] === first[token];
    while (isSoft && to < keys && inBlock(to)) to++; // an image is seen whole, later tokens too
    return [from, to];
  });
}

createInterface({ input: process.stdin }).on("line", (line) => {
  console.log(JSON.stringify(visible(JSON.parse(line))));
});
