// Marks the section that is being read in the contents.
const nav = document.querySelector(".contents");
const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
const sections = [...document.querySelectorAll("section[id]")];
const mark = () => {
  const end = window.innerHeight + window.scrollY >= document.body.scrollHeight - 4;
  const above = sections.filter((s) => s.getBoundingClientRect().top < window.innerHeight * 0.3);
  const here = end ? sections.at(-1) : above.at(-1);
  links.forEach((a, id) => {
    const now = !!here && id === here.id;
    if (now && !a.classList.contains("here")) nav.scrollTo({ left: a.offsetLeft - 60, behavior: "smooth" });
    a.classList.toggle("here", now);
  });
};
addEventListener("scroll", mark, { passive: true });
mark();
