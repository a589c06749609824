//! Names of people, places and organisations.
//!
//! Every word here is a single token of the BERT-uncased vocabulary once it is lower-cased and its accents are stripped:
//! a small model that starts from nothing then needs few examples to know a name's embedding. No word is in two lists and
//! none occurs in the texts of the themes.

/// First names of women.
pub(super) const WOMEN: [&str; 64] = [
    "Maria", "Anna", "Emma", "Sarah", "Laura", "Julia", "Alice", "Clara", "Helen", "Lucy", "Kate", "Nina", "Elena", "Irene",
    "Sophie", "Marie", "Eva", "Ruth", "Rosa", "Diana", "Martha", "Nancy", "Susan", "Linda", "Karen", "Lisa", "Emily", "Amy",
    "Rachel", "Rebecca", "Jessica", "Michelle", "Angela", "Carol", "Barbara", "Margaret", "Judith", "Joan", "Jane", "Ellen",
    "Catherine", "Elizabeth", "Teresa", "Monica", "Vera", "Olga", "Ingrid", "Greta", "Astrid", "Camille", "Isabel", "Carmen",
    "Lucia", "Amélie", "Chloé", "Zoé", "Renée", "Fatima", "Mei", "Yuki", "Hannah", "Charlotte", "Claire", "Olivia",
];

/// First names of men.
pub(super) const MEN: [&str; 64] = [
    "John", "Peter", "Paul", "David", "Daniel", "Thomas", "Michael", "Robert", "Richard", "William", "George", "Edward",
    "Charles", "Frank", "Albert", "Arthur", "Walter", "Harold", "Ralph", "Carl", "Otto", "Karl", "Hans", "Erik", "Lars", "Sven",
    "Ivan", "Boris", "Igor", "Sergei", "Anton", "Pavel", "Marco", "Luca", "Paolo", "Mario", "Antonio", "Carlos", "José", "Luis",
    "Juan", "Pedro", "Miguel", "Diego", "Pablo", "Rafael", "Andrés", "Fernando", "Hugo", "Felix", "Oscar", "Leon", "Simon",
    "Philip", "Martin", "Patrick", "Brian", "Kevin", "François", "André", "Jérôme", "Omar", "Ahmed", "Kenji",
];

/// Surnames.
pub(super) const SURNAMES: [&str; 112] = [
    "Lopez", "Garcia", "Martinez", "Rodriguez", "Gonzalez", "Hernandez", "Perez", "Sanchez", "Ramirez", "Torres", "Rivera",
    "Flores", "Gomez", "Diaz", "Morales", "Ortiz", "Silva", "Costa", "Rossi", "Russo", "Romano", "Ferrari", "Müller", "Schmidt",
    "Schneider", "Fischer", "Weber", "Meyer", "Wagner", "Becker", "Hoffmann", "Koch", "Bauer", "Richter", "Klein", "Neumann",
    "Krüger", "Nilsson", "Andersson", "Johansson", "Hansen", "Jensen", "Nielsen", "Larsen", "Kowalski", "Novak", "Ivanov",
    "Kim", "Chen", "Wang", "Zhang", "Tanaka", "Suzuki", "Yamamoto", "Nakamura", "Singh", "Patel", "Sharma", "Gupta", "Khan",
    "Cohen", "Levy", "Smith", "Johnson", "Williams", "Jones", "Davis", "Wilson", "Taylor", "Harris", "Clark", "Lewis",
    "Robinson", "Allen", "Nelson", "Roberts", "Turner", "Phillips", "Campbell", "Evans", "Edwards", "Collins", "Stewart",
    "Morris", "Rogers", "Reed", "Murphy", "Richardson", "Peterson", "Watson", "Brooks", "Kelly", "Sanders", "Bennett", "Ross",
    "Henderson", "Coleman", "Jenkins", "Perry", "Powell", "Hughes", "Simmons", "Bryant", "Hayes", "Myers", "Sullivan",
    "Wallace", "Reynolds", "Gibson", "Murray", "Simpson", "Tucker",
];

/// Cities and countries.
pub(super) const PLACES: [&str; 96] = [
    "London", "Paris", "Berlin", "Madrid", "Rome", "Vienna", "Prague", "Warsaw", "Budapest", "Lisbon", "Dublin", "Oslo",
    "Stockholm", "Copenhagen", "Helsinki", "Athens", "Moscow", "Istanbul", "Cairo", "Tunis", "Lagos", "Nairobi", "Tehran",
    "Baghdad", "Beirut", "Damascus", "Delhi", "Mumbai", "Karachi", "Kabul", "Bangkok", "Hanoi", "Manila", "Jakarta", "Singapore",
    "Seoul", "Tokyo", "Osaka", "Kyoto", "Beijing", "Shanghai", "Melbourne", "Brisbane", "Auckland", "Toronto", "Montréal",
    "Vancouver", "Ottawa", "Québec", "Chicago", "Boston", "Seattle", "Denver", "Miami", "Dallas", "Detroit", "Philadelphia",
    "Baltimore", "Memphis", "Havana", "Lima", "Bogotá", "Munich", "Hamburg", "Frankfurt", "Dresden", "Leipzig", "Bremen",
    "Zürich", "Geneva", "Milan", "Turin", "Venice", "Naples", "Barcelona", "Seville", "Lyon", "Marseille", "Brussels", "Antwerp",
    "Rotterdam", "Amsterdam", "Glasgow", "Edinburgh", "Cardiff", "Belfast", "Manchester", "Liverpool", "Leeds", "Oxford",
    "Kraków", "Riga", "Bergen", "Gothenburg", "Malmö", "Bristol",
];

/// First words of the names of organisations and teams.
pub(super) const GROUP_FIRST: [&str; 48] = [
    "Atlas", "Delta", "Crown", "Apollo", "Orion", "Mercury", "Titan", "Omega", "Alpha", "Zenith", "Summit", "Pioneer", "Liberty",
    "Eagle", "Falcon", "Raven", "Swan", "Lion", "Tiger", "Dragon", "Diamond", "Crystal", "Silver", "Amber", "Emerald", "Ruby",
    "Pearl", "Copper", "Granite", "Maple", "Cedar", "Willow", "Aurora", "Comet", "Horizon", "Beacon", "Compass", "Royal",
    "Imperial", "Northern", "Southern", "Western", "Eastern", "Unity", "Spectrum", "Vanguard", "Sentinel", "Thunder",
];

/// Last words of the names of organisations.
pub(super) const FIRM_LAST: [&str; 12] = [
    "Bank", "Energy", "Foods", "Telecom", "Motors", "Airlines", "Steel", "Media", "Books", "Studios", "Foundation", "Insurance",
];

/// Last words of the names of teams.
pub(super) const TEAM_LAST: [&str; 5] = ["Rovers", "United", "Wanderers", "Rangers", "Athletic"];
